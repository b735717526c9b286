"""How a run of the public suite is counted and compared; the run itself is `make conformance`."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tests.conformance.public_suite.__main__ import COMMITTED, KINDS, Results, Score, Told, scored, worse

EXPLAINED = Path(__file__).parents[2] / "docs" / "conformance.md"
RESULTS = Results(
    tests=(Told("b", "required"), Told("a", "required"), Told("c", "required"), Told("d", "check")),
    results={"a": ["Assertion", "no"], "b": ["Setup", "retry"], "c": True},
)


def test_what_passed_is_counted_by_kind_and_what_gave_no_result_has_failed() -> None:
    assert scored(RESULTS) == {
        "required": Score(passed=1, of=3, failing=("a", "b")),
        "optimal": Score(passed=0, of=0, failing=()),
        "check": Score(passed=0, of=1, failing=("d",)),
    }


def test_only_what_passed_before_and_fails_now_is_worse() -> None:
    now = scored(RESULTS)
    assert worse(now, now) == []
    assert worse(now, {**now, "required": Score(passed=2, of=3, failing=("b",))}) == ["a"]
    assert worse(now, {**now, "check": Score(passed=1, of=1, failing=())}) == []


@pytest.mark.parametrize("where", ["memory", "valkey"])
@pytest.mark.parametrize("kind", ["required", "optimal"])
def test_what_does_not_pass_is_explained_and_the_figures_are_the_committed_ones(
    where: str, kind: str
) -> None:
    committed = msgspec.json.decode(COMMITTED.read_bytes(), type=dict[str, dict[str, Score]])
    text = EXPLAINED.read_text("utf-8")
    score = committed[where][kind]
    shortened = re.sub(r"`…(-[a-z]+)`", r"`partial-store-partial-reuse-partial\1`", text)
    assert not [id_ for id_ in score.failing if f"`{id_}`" not in shortened]
    assert f"**{score.passed} of {score.of}**" in text
    assert set(committed[where]) == set(KINDS)
