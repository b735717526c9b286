"""Where the old timeline ended is read from what PostgreSQL still knows (the promotion itself: tests/failover)."""

from __future__ import annotations

import asyncpg
import pytest

from datacenters import promotion
from sandbox.postgres import PostgresServer

HISTORY = """\
1\t0/3000148\tno recovery target specified

2\t0/5000060\tno recovery target specified
"""


@pytest.mark.parametrize(
    ("text", "switch"),
    [
        (HISTORY, (2, 0x5000060)),
        ("1\t1/0\tx\n", (1, 1 << 32)),
        ("# a comment\n\n", None),
        ("", None),
    ],
)
def test_the_last_line_of_a_history_names_the_switch(text: str, switch: tuple[int, int] | None) -> None:
    assert promotion.last_switch(text) == switch


async def test_a_primary_is_not_promoted_again_and_without_knowledge_everything_is_distrusted(
    postgres_server: PostgresServer,
) -> None:
    connection = await asyncpg.connect(postgres_server.admin_dsn, ssl=False)
    try:
        for _ in range(2):
            switch = await promotion.promote(connection)
            assert (switch.ended, switch.timeline, switch.source) == ((1, 0), 1, "unknown")
    finally:
        await connection.close()
