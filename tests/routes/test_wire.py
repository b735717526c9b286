"""Shapes that several resources share."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routes.wire import NAME_EXAMPLE, SUBJECT_EXAMPLE, Clock, Day, Id, Mark, Name, Subject


def accepted(shape: Any, value: str) -> bool:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return False
    return True


@given(st.integers(0, 2000))
def test_every_mark_from_0_to_20_in_hundredths_is_one(hundredths: int) -> None:
    assert accepted(Mark, f"{Decimal(hundredths) / 100:.2f}")


@pytest.mark.parametrize(
    "mark", ["", "20.01", "20.10", "21.00", "14.5", "14", "014.50", "-0.50", ".50", "14.505", " 1.00"]
)
def test_nothing_else_is(mark: str) -> None:
    assert not accepted(Mark, mark)


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (Day, "2026-11-18", ["", "٢٠٢٦-١١-١٨", "2026-11-8", "18/11/2026", "2026-11-18T00:00"]),
        (Clock, "08:30", ["", "8:30", "08:30:00", "0830"]),
        (Id, "p7k2m5q3x4a6b2c7", ["", "x" * 65]),
    ],
)
def test_texts_have_their_form(shape: Any, good: str, bad: list[str]) -> None:
    assert accepted(shape, good)
    assert not any(accepted(shape, text) for text in bad)


def test_examples_are_of_their_shapes() -> None:
    assert msgspec.convert(NAME_EXAMPLE, Name).fr
    assert msgspec.convert(SUBJECT_EXAMPLE, Subject).code
