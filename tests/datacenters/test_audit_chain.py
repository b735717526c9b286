"""The chain shows every row that was lost, moved, changed, added or written twice."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import audit_chain, record
from datacenters.audit_chain import START, Head
from datacenters.record import Phase, Record
from tests.datacenters.worlds import NOW, declared

EVIDENCE = {"verdict": "dead", "sites": ["marrakech", "witness"]}


def chain_of(*records: Record) -> tuple[list[bytes], Head]:
    """The rows that these records leave, one after the other."""
    rows: list[bytes] = []
    head, before = START, None
    for after in records:
        head, raw = audit_chain.extend(head, before=before, after=after)
        rows.append(raw)
        before = after
    return rows, head


def history(length: int) -> list[Record]:
    """A country that moves to and fro, `length` records long."""
    records = [declared()]
    while len(records) < length:
        last = records[-1]
        now = NOW + len(records)
        if last.phase is Phase.ACTIVE:
            other = "marrakech" if last.active == "rabat" else "rabat"
            after = record.failover(
                last, target=other, reason="it burns", evidence=EVIDENCE, now=now, by="operator:a"
            )
        else:
            after = msgspec.structs.replace(
                last, phase=Phase.ACTIVE, active=last.target or last.active, target=None, decided_at=now
            )
        assert isinstance(after, Record)
        records.append(after)
    return records


ROWS, HEAD = chain_of(*history(9))


def test_a_whole_chain_holds_and_ends_in_the_last_record() -> None:
    found = audit_chain.walk(ROWS)
    assert found.whole
    assert (found.rows, found.head, found.last) == (9, HEAD, history(9)[-1])
    assert found.volume == sum(len(raw) for raw in ROWS)
    declared_now = history(9)[-1]
    ends = audit_chain.ends_as(
        found, head=HEAD, declared=declared_now, epoch=str(declared_now.epoch).encode()
    )
    assert ends == found
    assert audit_chain.walk([]).whole


@given(st.data())
def test_whatever_is_done_to_the_rows_is_found(data: st.DataObject) -> None:
    rows = list(ROWS)
    at = data.draw(st.integers(0, len(rows) - 1))
    how = data.draw(st.sampled_from(["lose", "change", "repeat", "swap", "insert"]))
    match how:
        case "lose":
            del rows[at]
        case "change":
            rows[at] = rows[at].replace(b'"operator:a"', b'"operator:b"').replace(b'"tests"', b'"other"')
        case "repeat":
            rows.insert(at, rows[at])
        case "swap":
            other = data.draw(st.integers(0, len(rows) - 1).filter(lambda n: n != at))
            rows[at], rows[other] = rows[other], rows[at]
        case _:
            row = audit_chain.decode_row(rows[at])
            rows.insert(at, msgspec.json.encode(msgspec.structs.replace(row, before=row.after)))
    found = audit_chain.against_head(audit_chain.walk(rows), HEAD)
    assert found.broken is not None
    assert found.broken.sequence <= len(ROWS) + 1


def test_the_first_broken_link_is_named() -> None:
    rows = list(ROWS)
    rows[4] = b"it rains".join(rows[4].rsplit(b"it burns", 1))
    broken = audit_chain.walk(rows).broken
    assert broken is not None
    assert broken.sequence == 6
    assert "row 6 names another row before it than row 5 is" in broken.sentence
    rows[2] = b"{"
    broken = audit_chain.walk(rows).broken
    assert broken is not None
    assert (broken.sequence, "unreadable" in broken.sentence) == (3, True)


def test_a_tail_that_was_cut_off_needs_the_head() -> None:
    cut = audit_chain.walk(ROWS[:-2])
    assert cut.whole
    broken = audit_chain.against_head(cut, HEAD).broken
    assert broken is not None
    assert "the rows end at 7, the head is at 9" in broken.sentence
    early = audit_chain.against_head(audit_chain.walk(ROWS), audit_chain.walk(ROWS[:-2]).head).broken
    assert early is not None
    assert "there are rows up to 9" in early.sentence


def test_a_chain_forged_from_the_start_does_not_end_in_the_head() -> None:
    forged, _ = chain_of(*(msgspec.structs.replace(one, reason="nothing happened") for one in history(9)))
    assert audit_chain.walk(forged).whole
    broken = audit_chain.against_head(audit_chain.walk(forged), HEAD).broken
    assert broken is not None
    assert "not the one whose digest" in broken.sentence


def test_an_epoch_may_neither_fall_nor_rise_without_evidence() -> None:
    bare = msgspec.structs.replace(history(2)[1], evidence={})
    found = audit_chain.walk(chain_of(declared(), bare)[0])
    assert found.broken is None
    assert not found.whole
    assert found.lacking[0].sentence == "epoch 2 was declared without any evidence"
    fallen = audit_chain.walk(chain_of(declared(epoch=5), declared(epoch=4))[0]).broken
    assert fallen is not None
    assert "falls from 5 to 4" in fallen.sentence


def test_a_record_that_no_row_declared_is_a_break() -> None:
    head, raw = audit_chain.extend(START, before=declared(epoch=3), after=declared(epoch=4))
    broken = audit_chain.walk([raw]).broken
    assert broken is not None
    assert "began from a record that no row declared" in broken.sentence
    assert head.sequence == 1


@pytest.mark.parametrize("wrong", ["head", "record", "epoch", "no head"])
def test_the_end_is_compared_to_what_stands_beside_it(wrong: str) -> None:
    found = audit_chain.walk(ROWS)
    assert found.last is not None
    ends = audit_chain.ends_as(
        found,
        head=None if wrong == "no head" else Head(9, "f" * 64) if wrong == "head" else HEAD,
        declared=declared() if wrong == "record" else found.last,
        epoch=b"1" if wrong == "epoch" else str(found.last.epoch).encode(),
    )
    assert ends.broken is not None


def test_an_export_keeps_the_very_bytes_and_its_head() -> None:
    rows, head = audit_chain.read_export(audit_chain.export(ROWS, HEAD))
    assert (list(rows), head) == (ROWS, HEAD)
    assert audit_chain.read_export(b"") == ((), None)
    cut = audit_chain.export(ROWS, HEAD).splitlines(keepends=True)[:-1]
    assert audit_chain.read_export(b"".join(cut)) == (tuple(ROWS), None)
    assert json.loads(audit_chain.export(ROWS, HEAD).splitlines()[-1]) == {
        "head": {"sequence": 9, "digest": HEAD.digest}
    }


def test_head_survives_its_encoding() -> None:
    assert audit_chain.decode_head(audit_chain.encode_head(HEAD)) == HEAD
