"""Each failure carries its slug and when to come back."""

from __future__ import annotations

import pytest

from datacenters.unanswered import (
    DatacentersUnavailable,
    ForwardingFailed,
    OutcomeUnknown,
    Overloaded,
    ReadOnly,
    Switching,
)


@pytest.mark.parametrize(
    ("kind", "slug"),
    [
        (ReadOnly, "read-only"),
        (Switching, "switching"),
        (Overloaded, "overloaded"),
        (OutcomeUnknown, "outcome-unknown"),
    ],
)
def test_slug_and_wait(kind: type[ForwardingFailed], slug: str) -> None:
    failure = kind("why", retry_after_s=3.0)
    assert (failure.slug, failure.retry_after_s, str(failure)) == (slug, 3.0, "why")


def test_an_unanswered_read_says_whether_everything_is_away() -> None:
    failure = DatacentersUnavailable("why", retry_after_s=1.0, datacenters_away=True)
    assert (failure.slug, failure.datacenters_away) == ("datacenters-unavailable", True)
