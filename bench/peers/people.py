"""Who asks in a comparison: synthetic pupils with access tokens of the measured gateway's own keys, and what each reads.

Invariant: every server of a comparison is asked for the same paths with the same tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import asyncpg
import msgspec
from cryptography.hazmat.primitives import serialization

from auth.keys import SigningKeys
from auth.opaque_id import new_id
from auth.principal import Role
from auth.tokens import Tokens
from sandbox import folder
from sandbox.postgres import ACCOUNTS, RECORDS

ISSUER = "https://massar.example"
AUDIENCE = "moutamadris"
LESSONS_KEPT = 6
LESSONS_OF_LARGE = 280
_SCHOOL_DAYS = 6


class Pupil(msgspec.Struct, frozen=True):
    """One who may read `path`."""

    subject: str
    path: str


class Issuer:
    """Signs access tokens as the gateway does."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._keys = SigningKeys.load(Path(environment["MASSAR_ACCESS_KEYS_DIR"]))
        self._tokens = Tokens(self._keys, issuer=ISSUER)

    @property
    def public_pem(self) -> bytes:
        """The key that the signatures hold by, as other programs read it."""
        return self._keys.signing_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def jwks(self) -> bytes:
        """The same as a JSON Web Key Set (RFC 7517)."""
        return self._keys.jwks()

    def tokens(self, pupils: Sequence[Pupil], count: int) -> Iterator[tuple[Pupil, str]]:
        """`count` tokens of sessions of their own, the pupils in turn; each lives ten minutes."""
        now = time.time()
        for number in range(count):
            pupil = pupils[number % len(pupils)]
            yield (
                pupil,
                self._tokens.issue_access(subject=pupil.subject, role=Role.STUDENT, sid=new_id(), now=now)[0],
            )


class Asking(msgspec.Struct, frozen=True):
    """Pupils whose timetables have LESSONS_KEPT lessons (1.4 KB), and those of one class with a very long one (64 KB)."""

    usual: list[Pupil]
    large: list[Pupil]


async def asking(table: folder.Table, site: str, *, count: int) -> Asking:
    """At most `count` pupils of a sandbox whose timetables nobody has read yet."""
    records = await asyncpg.connect(table.databases[site][RECORDS], ssl=False)
    try:
        large = await records.fetchval("SELECT class_id FROM pupils ORDER BY class_id LIMIT 1")
        await records.execute(_SHORTEN, LESSONS_KEPT)
        await records.execute(_LENGTHEN, large, LESSONS_OF_LARGE, _SCHOOL_DAYS)
        rows = await records.fetch("SELECT id, class_id FROM pupils ORDER BY id")
    finally:
        await records.close()
    accounts = await asyncpg.connect(table.databases[site][ACCOUNTS], ssl=False)
    try:
        active = await accounts.fetch(
            "SELECT subject FROM accounts WHERE app = $1 AND status = 'active'", AUDIENCE
        )
    finally:
        await accounts.close()
    allowed = {row["subject"] for row in active}
    found = [row for row in rows if row["id"] in allowed]
    return Asking(
        usual=[_pupil(row["id"]) for row in found if row["class_id"] != large][:count],
        large=[_pupil(row["id"]) for row in found if row["class_id"] == large],
    )


def _pupil(subject: str) -> Pupil:
    return Pupil(subject, f"/v1/pupils/{subject}/timetable")


_SHORTEN = """
DELETE FROM lessons USING (
  SELECT class_id, day, start_at, row_number() OVER (PARTITION BY class_id ORDER BY day, start_at) AS place FROM lessons
) AS listed
WHERE lessons.class_id = listed.class_id AND lessons.day = listed.day AND lessons.start_at = listed.start_at
  AND listed.place > $1
"""
_LENGTHEN = """
INSERT INTO lessons
SELECT class_id, 1 + place % $3, time '07:00' + place / $3 * interval '10 minutes',
  time '07:10' + place / $3 * interval '10 minutes', subject, teacher, room
FROM (SELECT * FROM lessons WHERE class_id = $1 LIMIT 1) AS one, generate_series(1, $2::int) AS place
ON CONFLICT DO NOTHING
"""
