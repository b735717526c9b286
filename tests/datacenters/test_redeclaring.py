"""After a restore the role stays where it was, above every epoch that anybody knows, or nobody gets it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from datacenters import redeclaring
from datacenters.preflight import Situation
from datacenters.record import Phase, Protection, Record, Refusal
from datacenters.redeclaring import highest, known, put_back
from datacenters.verdict import FenceRow, Observation
from tests.datacenters.worlds import NOW, all_well, declared, primary, seen, silent, standby


def told(site: str, fence: tuple[int, str] | None, **changes: Any) -> Observation:
    """What a site's director publishes when Marrakech has the role and Rabat follows."""
    found = seen(site, changes.pop("rabat", standby()), changes.pop("marrakech", primary()))
    row = None if fence is None else FenceRow(*fence)
    return msgspec.structs.replace(found, fence=row, **changes)


def situation(*observed: Observation, **changes: Any) -> Situation:
    return Situation(record=declared(**changes), observations={one.site: one for one in observed})


MOVED = (told("rabat", (2, "marrakech")), told("marrakech", (2, "marrakech")))


def again(found: Situation, *, without: tuple[str, ...] = ()) -> Record | Refusal:
    return redeclaring.redeclare(
        found.record, known(found, without=without), reason="restored", evidence={}, now=NOW, by="operator:a"
    )


def test_the_site_that_has_the_role_keeps_it_above_every_known_epoch() -> None:
    after = again(situation(*MOVED))
    assert isinstance(after, Record)
    assert (after.epoch, after.active, after.phase, after.target) == (3, "marrakech", Phase.ACTIVE, None)
    assert after.protection is Protection.RETURNING, "the journal is not whole"
    assert after.evidence == {"known_epoch": 2}


def test_an_epoch_that_only_a_director_knows_is_not_used_again() -> None:
    heard = msgspec.structs.replace(MOVED[0], highest_epoch=5)
    after = again(situation(heard, MOVED[1]))
    assert isinstance(after, Record)
    assert (after.epoch, after.active) == (6, "marrakech")


def test_a_closed_primary_that_lost_the_role_does_not_get_it_back() -> None:
    fork = told("rabat", (2, "marrakech"), rabat=primary())
    after = again(situation(fork, MOVED[1]))
    assert isinstance(after, Record)
    assert after.active == "marrakech"


def test_a_datacenter_frozen_for_another_one_goes_on_itself() -> None:
    """Its fence names the successor, which is no primary yet."""
    views = [
        told(site, (1, "marrakech"), rabat=primary(), marrakech=standby()) for site in ("rabat", "marrakech")
    ]
    after = again(situation(*views))
    assert isinstance(after, Record)
    assert (after.epoch, after.active) == (2, "rabat")


def test_who_says_nothing_might_know_more_unless_a_human_says_otherwise() -> None:
    alone = situation(msgspec.structs.replace(MOVED[1], looks={"rabat": silent(), "marrakech": primary()}))
    refused = again(alone)
    assert isinstance(refused, Refusal)
    assert "--without rabat" in refused.reason
    assert isinstance(again(alone, without=("rabat",)), Record)


@pytest.mark.parametrize(
    "observed",
    [
        (),
        (told("rabat", (2, "rabat"), rabat=primary()), MOVED[1]),
        (MOVED[0], told("marrakech", (2, "marrakech"), marrakech=silent())),
    ],
)
def test_nobody_gets_the_role_where_it_is_not_clear_who_has_it(observed: tuple[Observation, ...]) -> None:
    refused = again(situation(*observed), without=("rabat",))
    assert isinstance(refused, Refusal)
    assert "not one, but" in refused.reason


def test_a_move_that_goes_on_is_left_alone_and_one_that_came_back_from_the_past_is_not() -> None:
    under_way = {"phase": Phase.PROMOTING, "target": "marrakech"}
    assert isinstance(again(situation(*MOVED, epoch=3, **under_way)), Refusal)
    assert isinstance(again(situation(*MOVED, epoch=1, **under_way)), Record)


def test_only_an_epoch_below_what_is_known_was_put_back() -> None:
    assert put_back(declared(), all_well()) is None
    assert highest(declared(), situation(*MOVED).observations) == 2
    sentence = put_back(declared(), situation(*MOVED).observations)
    assert sentence is not None
    assert "epoch 1 and the sites know 2" in sentence
