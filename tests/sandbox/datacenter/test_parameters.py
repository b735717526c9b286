from __future__ import annotations

from collections.abc import Callable
from datetime import date, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.datacenter import parameters
from sandbox.datacenter.problems import Refused


def refusal(read: Callable[[], object]) -> str | None:
    """The slug with which `read` refuses, if it does."""
    try:
        read()
    except Refused as refused:
        return refused.slug
    return None


@given(st.dictionaries(st.sampled_from(sorted(parameters.PATH)), st.text(), min_size=1))
def test_any_path_is_understood_or_not_found(found: dict[str, str]) -> None:
    assert refusal(lambda: parameters.read_path(found)) in {None, "not-found"}


@given(st.text())
def test_any_query_is_understood_or_a_bad_request(query: str) -> None:
    views, weeks = {"view": parameters.one_of("class")}, {"week": parameters.week}
    assert refusal(lambda: parameters.read_query(query, required=views, optional=weeks)) in {
        None,
        "bad-request",
    }


def test_a_path_is_understood() -> None:
    found = {"class_id": "a" * 16, "date": "2026-11-18", "slot": "0830", "session": "1", "subject": "MATH"}
    assert parameters.read_path(found) == {
        "class_id": "a" * 16,
        "date": date(2026, 11, 18),
        "slot": time(8, 30),
        "session": 1,
        "subject": "MATH",
    }


def test_under_people_a_subject_is_a_person() -> None:
    assert parameters.read_path({"subject": "a" * 16}, people=True) == {"subject": "a" * 16}
    with pytest.raises(Refused):
        parameters.read_path({"subject": "MATH"}, people=True)


def test_an_absent_optional_parameter_is_none_and_an_empty_query_is_enough_where_nothing_is_required() -> (
    None
):
    assert parameters.read_query("", required={}, optional={"year": parameters.year}) == {"year": None}


@pytest.mark.parametrize("week", ["2026-W00", "2025-W53", "2026-W54", "0000-W01", "2026-W4", "٢٠٢٦-W47"])
def test_a_week_must_exist(week: str) -> None:
    with pytest.raises(ValueError):
        parameters.week(week)


def test_a_year_may_have_fifty_three_weeks() -> None:
    assert parameters.week("2026-W53") == "2026-W53"


def test_more_fields_than_anyone_needs_are_refused() -> None:
    with pytest.raises(Refused):
        parameters.read_query("&".join(f"a{n}=1" for n in range(50)), required={})
