"""Revoking a guardianship from outside, as the ministry would."""

from __future__ import annotations

import asyncpg
import pytest

from sandbox import folder, ministry, proc
from tests.countries import RunningCountry

NOBODY = "a" * 16


async def _some_link(country: RunningCountry) -> tuple[str, str]:
    """A guardianship that none of the sample accounts lives by."""
    named = {
        value
        for account in country.addresses.accounts.values()
        for value in (account.get("id"), account.get("pupil_id"))
    }
    connection = await asyncpg.connect(country.table().databases["rabat"]["records"], ssl=False)
    rows = await connection.fetch(
        "SELECT guardian, pupil FROM guardianships WHERE status = 'active' ORDER BY 1 DESC, 2"
    )
    await connection.close()
    return next(
        (row["guardian"], row["pupil"]) for row in rows if not {row["guardian"], row["pupil"]} & named
    )


async def test_a_link_is_revoked_once(country: RunningCountry) -> None:
    guardian, pupil = await _some_link(country)
    command = ("sandbox", "revoke-guardianship", "--parent", guardian, "--pupil", pupil)
    assert await country.massar(*command) == (
        0,
        f"revoked at rabat: {guardian} is no guardian of {pupil} any more\n",
    )
    assert await country.massar(*command) == (0, f"the link of {guardian} to {pupil} was revoked before\n")


async def test_an_unknown_link_is_told(country: RunningCountry) -> None:
    code, said = await country.massar("sandbox", "revoke-guardianship", "--parent", NOBODY, "--pupil", NOBODY)
    assert code == 1
    assert said == f"Error: {NOBODY} is no guardian of {NOBODY} in the school records\n"


async def test_a_country_without_its_etcd_is_told() -> None:
    table = folder.Table(
        gateways={},
        metrics={},
        datacenters={},
        valkey={},
        etcd=["http://127.0.0.1:9"],
        dir="",
        accounts={},
        boot_id=proc.boot_id(),
        supervisor=proc.own_identity(),
        ready=True,
        databases={},
        processes=[],
    )
    with pytest.raises(ministry.Impossible, match="etcd does not say"):
        await ministry.revoke_guardianship(table, guardian=NOBODY, pupil=NOBODY)
