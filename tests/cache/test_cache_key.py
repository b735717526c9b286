"""Keys: canonical, never confused, unreadable outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.cache_key import SEALED_NAME_BYTES, CacheKey, resource, sealed_name

PARTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda part: part not in {".", ".."}
    ),
    min_size=1,
    max_size=4,
)
QUERIES = st.dictionaries(
    PARTS.map(lambda parts: parts[0]), st.text(st.characters(exclude_categories=["Cs"])), max_size=3
)
VIEWS = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)


@given(PARTS, QUERIES, PARTS, QUERIES)
def test_two_different_resources_never_share_a_name(
    parts: list[str], query: dict[str, str], other_parts: list[str], other_query: dict[str, str]
) -> None:
    same = (parts, query) == (other_parts, other_query)
    assert (resource(*parts, query=query) == resource(*other_parts, query=other_query)) == same


@given(st.sampled_from("/?&=%:#+ "), st.sampled_from("/?&=%:#+ "))
def test_a_separator_inside_a_part_is_not_a_separator(one: str, other: str) -> None:
    names = {
        resource("a", f"b{one}c"),
        resource("a", "b", "c"),
        resource("a", "b", query={"c": ""}),
        resource("a", f"b{one}c", "d"),
        resource("a", "b", query={f"c{other}": "d"}),
        resource("a", "b", query={"c": f"{other}d"}),
    }
    assert len(names) == 6


@given(VIEWS, st.integers(0, 99), PARTS, VIEWS, st.integers(0, 99), PARTS)
def test_two_different_keys_never_share_a_text(
    view: str, schema: int, parts: list[str], other_view: str, other_schema: int, other_parts: list[str]
) -> None:
    one = CacheKey(resource(*parts), view, schema)
    other = CacheKey(resource(*other_parts), other_view, other_schema)
    assert (one.text == other.text) == (one == other)


def test_the_order_of_query_names_does_not_matter() -> None:
    assert resource("p", query={"year": 2026, "session": 1}) == resource(
        "p", query={"session": "1", "year": "2026"}
    )


def test_a_resource_is_a_request_target() -> None:
    assert (
        resource("v1", "pupils", "abc", "grades", query={"year": 2026}) == "/v1/pupils/abc/grades?year=2026"
    )


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_part_that_a_path_would_swallow_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="dot segment"):
        resource("v1", part, "grades")


@pytest.mark.parametrize("view", ["", "Family", "fam:ily", "9", "family\n", "é", "أ"])
def test_a_view_is_a_declared_word(view: str) -> None:
    with pytest.raises(ValueError, match="declared"):
        CacheKey("/v1/x", view)


def test_a_schema_is_not_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        CacheKey("/v1/x", "family", -1)


def test_a_sealed_name_shows_nothing_and_depends_on_secret_kind_and_text() -> None:
    key = CacheKey("/v1/pupils/abc/grades", "family")
    name = key.sealed_name(b"s" * 32)
    assert len(name) == SEALED_NAME_BYTES
    assert name == sealed_name(b"s" * 32, "entry", key.text)
    assert b"pupils" not in name
    assert b"abc" not in name
    assert name != key.sealed_name(b"t" * 32)
    assert name != sealed_name(b"s" * 32, "generation", key.text)
