"""What a site whose history is over must do next: nothing too early, nothing unlisted, nothing lost on the way."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import fenced
from datacenters.fenced import Fate, Orphan, Report, Standing, Step, Written
from datacenters.record import Phase, Record
from tests.datacenters.worlds import RECORDS, declared

OVER = declared(epoch=2, active="marrakech", switch_position="1-1000")
PRIMARY = Standing(in_recovery=False, timeline=1, fence_epoch=2, fence_site="marrakech")
STANDBY = Standing(
    in_recovery=True, timeline=None, fence_epoch=2, fence_site="marrakech", streaming=True, caught_up=True
)
LISTED = Report(
    site="rabat", epoch=2, active="marrakech", timeline=1, fork_lsn=1000, listed_at=1.0, orphans=()
)
DONE = msgspec.structs.replace(LISTED, rejoined_at=2.0)


def step(
    record: Record | None = OVER,
    *,
    standing: Standing | None = PRIMARY,
    report: Report | None = None,
    word_age_s: float = 0.1,
) -> Step:
    return fenced.step(record, word_age_s=word_age_s, site="rabat", standing=standing, report=report)


def replaced(standing: Standing, **changes: object) -> Standing:
    return msgspec.structs.replace(standing, **changes)


def test_the_way_back_is_list_rejoin_settle() -> None:
    assert step() is Step.LIST
    assert step(report=LISTED) is Step.REJOIN
    assert step(report=LISTED, standing=None) is Step.REJOIN, (
        "PostgreSQL was stopped by a rejoin that did not end"
    )
    assert step(report=LISTED, standing=replaced(STANDBY, streaming=False, caught_up=False)) is Step.REJOIN
    assert step(report=LISTED, standing=replaced(STANDBY, caught_up=False)) is Step.NOTHING
    assert step(report=LISTED, standing=STANDBY) is Step.SETTLE
    assert step(report=DONE, standing=STANDBY) is Step.NOTHING


def test_a_standby_that_starves_is_rebuilt_by_the_same_way() -> None:
    starved = replaced(STANDBY, streaming=False, caught_up=False, starved_s=fenced.STARVED_S)
    assert step(standing=starved) is Step.LIST
    assert step(standing=starved, report=DONE) is Step.LIST
    assert step(standing=starved, report=LISTED) is Step.REJOIN
    assert step(standing=replaced(starved, starved_s=fenced.STARVED_S - 1)) is Step.NOTHING


def test_a_fence_that_is_still_open_is_closed_first() -> None:
    assert step(standing=replaced(PRIMARY, fence_epoch=1, fence_site="rabat")) is Step.NOTHING
    assert step(standing=replaced(PRIMARY, fence_epoch=1)) is Step.NOTHING
    assert step(standing=replaced(PRIMARY, fence_site="rabat")) is Step.NOTHING


def test_a_site_that_lost_its_role_again_lists_again() -> None:
    assert step(report=DONE) is Step.LIST
    assert step(report=msgspec.structs.replace(LISTED, epoch=1)) is Step.LIST, "it may have been active since"


def test_without_a_list_no_postgresql_is_touched() -> None:
    assert step(standing=None) is Step.NOTHING
    assert step(standing=None, report=DONE) is Step.NOTHING
    assert step(standing=STANDBY) is Step.NOTHING
    assert step(standing=replaced(STANDBY, streaming=False, caught_up=False)) is Step.NOTHING


@pytest.mark.parametrize("report", [None, LISTED, DONE])
@pytest.mark.parametrize("standing", [PRIMARY, STANDBY, None])
def test_an_old_word_or_none_moves_nothing(report: Report | None, standing: Standing | None) -> None:
    assert step(None, standing=standing, report=report) is Step.NOTHING
    assert step(word_age_s=1.0, standing=standing, report=report) is Step.NOTHING


@given(
    RECORDS,
    st.builds(
        Standing,
        in_recovery=st.booleans(),
        timeline=st.just(1),
        fence_epoch=st.integers(0, 5),
        fence_site=st.sampled_from(["rabat", "marrakech", None]),
    )
    | st.none(),
    st.sampled_from([None, LISTED, DONE]),
)
def test_the_active_site_and_a_move_under_way_are_never_touched(
    record: Record, standing: Standing | None, report: Report | None
) -> None:
    found = step(record, standing=standing, report=report)
    moving = record.phase not in {Phase.ACTIVE, Phase.HOLD, Phase.READ_ONLY}
    if record.active == "rabat" or moving:
        assert found is Step.NOTHING
    if found is Step.REJOIN:
        assert report is LISTED


def test_a_primary_is_over_only_when_another_site_is_active() -> None:
    assert fenced.is_over(OVER, site="rabat", standing=PRIMARY)
    assert not fenced.is_over(OVER, site="marrakech", standing=PRIMARY)
    assert not fenced.is_over(OVER, site="rabat", standing=STANDBY)
    assert not fenced.is_over(None, site="rabat", standing=PRIMARY)
    under_way = declared(epoch=3, phase=Phase.PROMOTING, active="marrakech", target="rabat")
    assert not fenced.is_over(under_way, site="rabat", standing=PRIMARY)


def test_the_fork_is_the_switch_of_the_same_timeline_or_unknown() -> None:
    assert fenced.fork(OVER, timeline=1) == 1000
    assert fenced.fork(OVER, timeline=2) == 0
    assert fenced.fork(declared(epoch=2, active="marrakech"), timeline=1) == 0
    assert fenced.listed_from(0) == 0
    far = 10 * fenced.FORK_MARGIN_BYTES
    assert fenced.listed_from(far) == far - fenced.FORK_MARGIN_BYTES


def written(key: str, lsn: int | None, *, digest: str = "aa", decided_at: str = "t") -> Written:
    return Written(principal="p", route="r", key=key, digest=digest, decided_at=decided_at, order_lsn=lsn)


def settled(*pairs: tuple[Written, Written | None], fork_lsn: int = 1000) -> dict[str, Fate]:
    report = msgspec.structs.replace(
        LISTED, fork_lsn=fork_lsn, orphans=tuple(Orphan(ours) for ours, _ in pairs)
    )
    held = {theirs.scope: theirs for _, theirs in pairs if theirs is not None}
    done = fenced.settle(report, held, now=9.0)
    assert done.rejoined_at == 9.0
    return {orphan.written.key: orphan.fate for orphan in done.orphans}


def test_the_fate_of_each_is_what_the_active_history_holds() -> None:
    fates = settled(
        (written("replayed", 1200), written("replayed", 1300)),
        (written("never told", 1200), None),
        (written("reused", 1200), written("reused", 1300, digest="bb")),
        (written("replicated", 900), written("replicated", 900)),
        (written("began before the fork", 990), None),
        (written("same place by chance", 1200), written("same place by chance", 1200)),
    )
    assert fates == {
        "replayed": Fate.HELD,
        "never told": Fate.ABSENT,
        "reused": Fate.OTHER,
        "began before the fork": Fate.ABSENT,
        "same place by chance": Fate.HELD,
    }


def test_with_an_unknown_fork_what_is_there_as_it_was_is_no_orphan() -> None:
    assert settled((written("a", 5), written("a", 5)), (written("b", 6), None), fork_lsn=0) == {
        "b": Fate.ABSENT
    }
