"""Entries survive the way out and back, and nothing else is taken for one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.entries import Entry, EntryBroken, decode, encode, make_etag
from tests.cache.building import entry


def entries() -> st.SearchStrategy[Entry]:
    """Any entry, tags and generations in step."""
    number = st.integers(0, 2**63 - 1)
    pairs = st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), number), max_size=4)
    return st.builds(
        lambda body, at, epoch, position, pairs, status: Entry(
            body=body,
            etag=make_etag("family", body),
            stored_at=at,
            epoch=epoch,
            position=position,
            tags=tuple(tag for tag, _ in pairs),
            generations=tuple(value for _, value in pairs),
            status=status,
        ),
        st.binary(),
        st.floats(0, 1e11),
        number,
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)),
        pairs,
        st.integers(100, 599),
    )


@given(entries())
def test_an_entry_comes_back_as_it_went(one: Entry) -> None:
    assert decode(encode(one)) == one


@given(st.binary())
def test_garbage_is_no_entry(raw: bytes) -> None:
    with pytest.raises(EntryBroken):
        decode(raw)


@given(entries(), st.data())
def test_a_cut_entry_is_no_entry(one: Entry, data: st.DataObject) -> None:
    raw = encode(one)
    with pytest.raises(EntryBroken):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


def test_tags_without_their_generations_are_no_entry() -> None:
    with pytest.raises(EntryBroken, match="differ in number"):
        decode(encode(entry(tags=("a", "b"), generations=(1,))))


def test_an_entry_written_before_a_field_was_added_still_reads() -> None:
    """Array-like Structs read shorter arrays: fields are only appended, with defaults."""
    whole = msgspec.to_builtins(entry(b"body"), builtin_types=(bytes,))
    assert decode(msgspec.msgpack.encode(whole[:7])) == entry(b"body")


@given(
    st.binary(), st.binary(), st.sampled_from(["family", "teacher"]), st.sampled_from(["family", "teacher"])
)
def test_etags_are_equal_exactly_when_view_and_bytes_are(
    one: bytes, other: bytes, view: str, other_view: str
) -> None:
    same = (one, view) == (other, other_view)
    assert (make_etag(view, one) == make_etag(other_view, other)) == same


def test_an_etag_is_strong_and_quoted() -> None:
    etag = make_etag("family", b"{}")
    assert etag.startswith(b'"')
    assert etag.endswith(b'"')
    assert len(etag) == 26
    assert etag[1:-1].decode().replace("-", "").replace("_", "").isalnum()
