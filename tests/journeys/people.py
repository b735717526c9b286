"""Who acts in the journeys: found in the school records, signed in by the country's own keys."""

from __future__ import annotations

import time
from pathlib import Path

import asyncpg
import msgspec

from auth.keys import SigningKeys
from auth.opaque_id import new_id
from auth.principal import Role
from auth.tokens import ACCESS_TTL_S, Tokens
from gateway.settings import Settings
from sandbox import keys
from sandbox.phone import Account
from tests.countries import RunningCountry

NOBODY = "a" * 16


class Mint:
    """Access tokens as the gateways of a country sign them: no sign-in, no session behind them."""

    def __init__(self, directory: Path) -> None:
        self.keys = SigningKeys.load(directory / "keys" / keys.ACCESS)
        issuer = next(field.default for field in msgspec.structs.fields(Settings) if field.name == "issuer")
        self.tokens = Tokens(self.keys, issuer=issuer)

    def token(self, role: Role | str, subject: str, *, sid: str | None = None, age_s: float = 0) -> str:
        """An access token of `subject`, issued `age_s` seconds ago."""
        token, _ = self.tokens.issue_access(
            subject=subject, role=Role(role), sid=sid or new_id(), now=time.time() - age_s
        )
        return token

    def expired(self, role: Role | str, subject: str) -> str:
        """A token that ran out a second ago."""
        return self.token(role, subject, age_s=ACCESS_TTL_S + 1)


class People(msgspec.Struct, frozen=True):
    """The ready file's sample accounts, and pupils whom the sample teacher does not teach."""

    student: Account
    classmate: Account
    stranger: Account
    parent: Account
    other_parent: Account
    revoked_parent: Account
    teacher: Account
    untaught: str
    untaught_class: str


async def find_people(country: RunningCountry, records: asyncpg.Connection) -> People:
    """The sample people of a country."""
    given = {name: msgspec.convert(account, Account) for name, account in country.addresses.accounts.items()}
    untaught = await records.fetchrow(
        """
        SELECT pupils.id, pupils.class_id FROM pupils
        WHERE class_id <> $2
          AND NOT EXISTS (SELECT FROM assignments WHERE assignments.class_id = pupils.class_id AND teacher = $1)
        ORDER BY pupils.id LIMIT 1
        """,
        given["teacher"].id,
        given["stranger_student"].class_id,
    )
    assert untaught is not None
    return People(
        student=given["student"],
        classmate=given["classmate"],
        stranger=given["stranger_student"],
        parent=given["parent"],
        other_parent=given["other_parent"],
        revoked_parent=given["revoked_parent"],
        teacher=given["teacher"],
        untaught=untaught["id"],
        untaught_class=untaught["class_id"],
    )
