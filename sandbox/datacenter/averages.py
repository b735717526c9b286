"""How marks become averages. The weights are the ministry's yearly figures and come from the school records.

Invariant: pure; every published figure is rounded half up to two decimals, and a figure made of other figures is
made of the rounded ones, so that a family can compute it again from what it sees.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

CLASS_AVERAGE_MARKS_MIN = 10  # fewer would tell a pupil's mark to his classmates
_CENT = Decimal("0.01")


def rounded(value: Decimal) -> Decimal:
    """Two decimals, half up."""
    return value.quantize(_CENT, rounding=ROUND_HALF_UP)


def subject_average(
    *, total: Decimal, counted: int, activities: Decimal | None, control_weight: Decimal
) -> Decimal | None:
    """A pupil's average in a subject: the mean of the contrôles by its weight, the activities by the rest.

    `total` and `counted` are of the contrôles that count: marked ones, and absences as 0. Without activities it is
    the plain mean; without a contrôle that counts there is nothing to average.
    """
    if counted == 0:
        return None
    mean = total / counted
    if activities is None:
        return rounded(mean)
    return rounded(mean * control_weight + activities * (1 - control_weight))


def class_average(averages: Iterable[Decimal | None], *, marks: int) -> Decimal | None:
    """The mean of the pupils' subject averages; None while fewer than ten marks stand behind it."""
    known = [average for average in averages if average is not None]
    if marks < CLASS_AVERAGE_MARKS_MIN or not known:
        return None
    return rounded(sum(known, Decimal(0)) / len(known))


def general_average(subjects: Iterable[tuple[Decimal, Decimal | None]]) -> Decimal | None:
    """The mean of (coefficient, average) over the subjects that have an average."""
    known = [
        (coefficient, average) for coefficient, average in subjects if average is not None and coefficient > 0
    ]
    if not known:
        return None
    weight = sum((coefficient for coefficient, _ in known), Decimal(0))
    return rounded(sum((coefficient * average for coefficient, average in known), Decimal(0)) / weight)
