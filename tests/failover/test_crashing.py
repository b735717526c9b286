"""A director dies once at the very step that is asked for, and is the real one everywhere else."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from datacenters import control, record
from datacenters.control import Held
from datacenters.fence import Fence
from datacenters.promotion import promote
from datacenters.record import Record
from tests.datacenters.worlds import NOW
from tests.failover.crashing import Crash, plant, step_of
from tests.failover.schedule import FAILOVER_STEPS, MOMENTS, SWITCHOVER_STEPS


class Died(BaseException):
    """In place of SIGKILL."""


def dies() -> None:
    raise Died


@pytest.fixture
def crash(tmp_path: Path) -> Crash:
    return Crash(tmp_path / "crash", site="rabat", die=dies)


def steps(first: Record, *, planned: bool) -> list[Record]:
    """Every record of a move from Rabat to Marrakech."""
    told: dict[str, Any] = {"now": NOW, "by": "d"}
    to: dict[str, Any] = {"target": "marrakech", "reason": "r", "evidence": {}, **told}
    made: list[Record | record.Refusal] = [first]
    if planned:
        made.append(record.freeze(first, **to))
        made.append(record.seal(_last(made), site="rabat", frozen_position="1-7", **told))
        made.append(record.claim_sealed(_last(made), site="marrakech", **told))
    else:
        made.append(record.claim(first, **to))
    made.append(record.begin_replay(_last(made), site="marrakech", switch_position="1-7", **told))
    made.append(record.activate(_last(made), site="marrakech", **told))
    return [_last(made[: number + 1]) for number in range(len(made))]


def _last(made: list[Record | record.Refusal]) -> Record:
    assert isinstance(made[-1], Record), made[-1]
    return made[-1]


@pytest.mark.parametrize(
    ("planned", "names"),
    [
        (False, ["claim", "begin of replay", "activation"]),
        (True, ["other", "seal", "sealed claim", "begin of replay", "activation"]),
    ],
)
def test_every_transition_of_a_move_has_its_name(names: list[str], *, planned: bool) -> None:
    made = steps(record.first(active="rabat", by="tests", now=NOW), planned=planned)
    assert [step_of(*pair) for pair in itertools.pairwise(made)] == names
    given_up = record.abort(made[1], reason="r", now=NOW, by="d")
    assert isinstance(given_up, Record)
    assert step_of(made[1], given_up) == "abort"


@pytest.mark.parametrize("moment", MOMENTS)
async def test_it_dies_before_or_after_the_change_and_only_once(
    crash: Crash, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    changed: list[Record] = []

    async def change(_etcd: None, _held: Held, after: Record) -> bool:
        changed.append(after)
        return True

    monkeypatch.setattr(control, "change", change)
    plant(crash, put=monkeypatch.setattr)
    first, claimed, *_ = steps(record.first(active="rabat", by="tests", now=NOW), planned=False)
    held = Held(record=first, raw=b"")
    (tmp_path / "crash").write_text("marrakech before claim", "utf-8")
    crash.at("before", "claim")
    (tmp_path / "crash").write_text(f"rabat {moment} claim", "utf-8")
    with pytest.raises(Died):
        await control.change(None, held, claimed)  # type: ignore[arg-type]  # stands in for it
    assert changed == ([] if moment == "before" else [claimed])
    assert not (tmp_path / "crash").exists()
    assert await control.change(None, held, claimed)  # type: ignore[arg-type]  # stands in for it


def test_every_step_that_a_schedule_names_is_planted(crash: Crash) -> None:
    named = {"seal", "sealed claim", "claim", "begin of replay", "activation"}
    wrapped: dict[str, Any] = {}
    plant(crash, put=lambda _owner, name, value: wrapped.update({name: value}))
    assert {*FAILOVER_STEPS, *SWITCHOVER_STEPS} == named | {"promotion", "fence", "freeze", "replay"}
    assert set(wrapped) == {"change", "promote", "freeze", "raise_to", "_transact"}
    assert wrapped["promote"].__wrapped__ is promote
    assert wrapped["freeze"].__wrapped__ is Fence.freeze
