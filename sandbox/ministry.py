"""What the ministry does to the school records, done from outside the gateway: the sandbox's only hand on the rows.

Invariant: it writes in the datacenter that the record declares active, and nowhere else.
"""

from __future__ import annotations

import asyncpg

from datacenters import etcd_keys, record
from datacenters.etcd import Etcd, EtcdUnavailable
from sandbox.folder import Table
from sandbox.postgres import RECORDS

CONNECT_WITHIN_S = 3.0
STATEMENT_WITHIN_S = 5.0


class Impossible(Exception):
    """It cannot be done; the message says why."""


async def revoke_guardianship(table: Table, *, guardian: str, pupil: str) -> str:
    """Revoke the link and return a sentence about it.

    Raises: Impossible: nobody knows such a link, or the active datacenter cannot be written to.
    """
    site = await _active(table)
    try:
        connection = await asyncpg.connect(
            table.databases[site][RECORDS], ssl=False, timeout=CONNECT_WITHIN_S
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as failure:
        raise Impossible(
            f"{site}'s school records do not answer: {failure or type(failure).__name__}"
        ) from None
    try:
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            raise Impossible(f"{site} is declared active, but its PostgreSQL has not been promoted yet")
        status = await connection.fetchval(
            "SELECT status FROM guardianships WHERE guardian = $1 AND pupil = $2", guardian, pupil
        )
        if status is None:
            raise Impossible(f"{guardian} is no guardian of {pupil} in the school records")
        changed = await connection.fetchval(
            "UPDATE guardianships SET status = 'revoked', updated_at = clock_timestamp()"
            " WHERE guardian = $1 AND pupil = $2 AND status = 'active' RETURNING true",
            guardian,
            pupil,
            timeout=STATEMENT_WITHIN_S,
        )
    finally:
        await connection.close()
    if not changed:
        return f"the link of {guardian} to {pupil} was revoked before"
    return f"revoked at {site}: {guardian} is no guardian of {pupil} any more"


async def _active(table: Table) -> str:
    client = Etcd(table.etcd)
    try:
        found = await client.read(etcd_keys.CONTROL)
    except EtcdUnavailable as failure:
        raise Impossible(f"etcd does not say which datacenter is active: {failure}") from None
    finally:
        await client.aclose()
    if found is None:
        raise Impossible("etcd holds no record yet: the sandbox is still starting")
    return record.decode(found.value).active
