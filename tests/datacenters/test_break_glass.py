"""Two different people, one statement, one epoch, a quarter of an hour: nothing less declares anything."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from datacenters import break_glass
from datacenters.break_glass import VALID_S, Order, Signature
from datacenters.record import Phase, Refusal
from tests.datacenters.worlds import NOW, declared

AMINA, BRAHIM, NOBODY = (Ed25519PrivateKey.generate() for _ in range(3))
KEYS: Mapping[str, Ed25519PublicKey] = {"amina": AMINA.public_key(), "brahim": BRAHIM.public_key()}


def prepared(site: str = "marrakech", epoch: int = 1) -> Order:
    return break_glass.prepare(site=site, epoch=epoch, reason="flood", key=AMINA, by="amina", now=NOW)


def approved(order: Order | None = None) -> Order:
    made = break_glass.approve(order or prepared(), key=BRAHIM, by="brahim", now=NOW + 60)
    assert isinstance(made, Order)
    return made


def broken(order: Order, *, now: float = NOW + 120, keys: Mapping[str, Ed25519PublicKey] = KEYS) -> set[str]:
    rules = break_glass.rules(order, keys=keys, record=declared(), now=now)
    return {rule.name for rule in rules if not rule.holds}


def test_two_peoples_statement_holds_for_a_quarter_of_an_hour() -> None:
    assert broken(approved()) == set()
    assert broken(approved(), now=NOW + VALID_S) == set()
    assert broken(approved(), now=NOW + VALID_S + 1) == {"fresh"}
    assert broken(approved(), now=NOW - 3600) == {"fresh"}


def test_one_person_is_not_enough_under_whatever_names() -> None:
    assert broken(prepared()) == {"two-people"}
    again = break_glass.approve(prepared(), key=AMINA, by="amina", now=NOW)
    assert isinstance(again, Refusal)
    twice = break_glass.approve(prepared(), key=AMINA, by="brahim", now=NOW)
    assert isinstance(twice, Order)
    assert broken(twice) == {"two-people", "signatures-hold"}
    # The same key lying in the folder under two names is one person.
    assert broken(twice, keys={"amina": AMINA.public_key(), "brahim": AMINA.public_key()}) == {"two-people"}


def test_an_unknown_key_counts_for_nothing() -> None:
    stranger = break_glass.approve(prepared(), key=NOBODY, by="stranger", now=NOW)
    assert isinstance(stranger, Order)
    assert broken(stranger) == {"two-people", "signatures-hold"}


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "rabat"},
        {"reason": "drill"},
        {"nonce": "0" * 32},
        {"valid_until": NOW + VALID_S - 1},
        {"others": "they may be on"},
    ],
)
def test_whatever_is_changed_after_signing_breaks_the_signatures(changes: dict[str, str | float]) -> None:
    order = approved()
    changed = msgspec.structs.replace(order, statement=msgspec.structs.replace(order.statement, **changes))
    assert broken(changed) >= {"two-people", "signatures-hold"}


def test_a_statement_about_another_epoch_or_a_longer_time_is_none() -> None:
    assert broken(approved(prepared(epoch=7))) == {"this-epoch"}
    statement = msgspec.structs.replace(prepared().statement, valid_until=NOW + 86_400)
    long = Order(
        statement,
        tuple(break_glass._signed(statement, key, by) for key, by in ((AMINA, "amina"), (BRAHIM, "brahim"))),
    )
    assert broken(long) == {"fresh"}


def test_what_has_run_out_is_not_approved() -> None:
    late = break_glass.approve(prepared(), key=BRAHIM, by="brahim", now=NOW + VALID_S + 1)
    assert isinstance(late, Refusal)


def test_a_spoiled_signature_is_no_error() -> None:
    order = msgspec.structs.replace(prepared(), signatures=(Signature("amina", "not base64!"),))
    assert broken(order) == {"two-people", "signatures-hold"}


def test_the_epoch_rises_and_both_names_are_kept() -> None:
    order = approved()
    moved = break_glass.declared(declared(), order, by=("amina", "brahim"), now=NOW + 200)
    assert (moved.epoch, moved.phase, moved.active, moved.target) == (
        2,
        Phase.PROMOTING,
        "rabat",
        "marrakech",
    )
    assert moved.decided_by == "operators:amina+brahim"
    assert moved.evidence["signed_by"] == ["amina", "brahim"]
    assert moved.evidence["break_glass"]["nonce"] == order.statement.nonce
    stays = break_glass.declared(
        declared(phase=Phase.PROMOTING, target="marrakech"),
        approved(prepared("rabat")),
        by=("a", "b"),
        now=NOW,
    )
    assert (stays.epoch, stays.phase, stays.active, stays.target) == (2, Phase.ACTIVE, "rabat", None)


def test_an_order_survives_its_file() -> None:
    order = approved()
    assert break_glass.decode(break_glass.encode(order)) == order
