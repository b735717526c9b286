from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.datacenter.averages import class_average, general_average, rounded, subject_average

MARKS = st.decimals(min_value=0, max_value=20, places=2)
WEIGHTS = st.decimals(min_value=0, max_value=1, places=2)


@pytest.mark.parametrize(
    ("value", "text"), [("10.005", "10.01"), ("10.004", "10.00"), ("0.125", "0.13"), ("20", "20.00")]
)
def test_rounding_is_half_up_to_two_decimals(value: str, text: str) -> None:
    assert str(rounded(Decimal(value))) == text


@given(st.lists(MARKS, min_size=1, max_size=6), st.one_of(st.none(), MARKS), WEIGHTS)
def test_an_average_lies_between_its_parts(
    marks: list[Decimal], activities: Decimal | None, weight: Decimal
) -> None:
    average = subject_average(
        total=sum(marks, Decimal(0)), counted=len(marks), activities=activities, control_weight=weight
    )
    parts = [*marks, *([] if activities is None else [activities])]
    assert average is not None
    assert rounded(min(parts)) <= average <= rounded(max(parts))


def test_activities_weigh_what_the_controls_leave() -> None:
    average = subject_average(
        total=Decimal("22.50"), counted=2, activities=Decimal(15), control_weight=Decimal("0.75")
    )
    assert average == Decimal("12.19")  # 11.25 x 0.75 + 15 x 0.25 = 12.1875


def test_without_a_control_that_counts_there_is_no_average() -> None:
    assert (
        subject_average(total=Decimal(0), counted=0, activities=Decimal(15), control_weight=Decimal("0.75"))
        is None
    )


@given(st.lists(st.one_of(st.none(), MARKS), max_size=40), st.integers(0, 9))
def test_fewer_than_ten_marks_have_no_class_average(averages: list[Decimal | None], marks: int) -> None:
    assert class_average(averages, marks=marks) is None


def test_a_class_average_is_of_those_who_have_one() -> None:
    assert class_average([Decimal(10), None, Decimal(15)], marks=10) == Decimal("12.50")
    assert class_average([None, None], marks=10) is None


def test_the_general_average_weighs_by_coefficient_and_leaves_out_what_has_none() -> None:
    subjects = [(Decimal(3), Decimal("7.25")), (Decimal("2.5"), Decimal("12.19")), (Decimal(2), None)]
    assert general_average(subjects) == Decimal("9.50")
    assert general_average([(Decimal(2), None), (Decimal(0), Decimal(20))]) is None
