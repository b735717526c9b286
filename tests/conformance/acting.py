"""What a teacher does through a gateway, and how a test looks at what became of it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.conformance import seed
from tests.conformance.ground import Ground

GRADEBOOK = f"/v1/gradebooks/{seed.CLASS}/MATH/1"
ENTRIES = f"{GRADEBOOK}/entries"
ROLL = f"/v1/classes/{seed.CLASS}/attendance/2026-11-16/0830"
HOMEWORK = f"/v1/classes/{seed.CLASS}/homework"
EXERCISE = {"subject": "MATH", "text": "Exercice 7", "due_on": "2026-11-30"}
SEEN_AT = "2026-11-16T08:35:00Z"


def cell(
    pupil: str, number: int = 2, mark: str | None = "13.25", state: str = "marked", version: int = 0
) -> dict[str, Any]:
    return {"pupil_id": pupil, "number": number, "mark": mark, "state": state, "version": version}


async def enter(ground: Ground, *cells: dict[str, Any], **how: Any) -> httpx.Response:
    return await ground.write("PUT", how.pop("path", ENTRIES), {"entries": list(cells)}, **how)


async def version(ground: Ground, pupil: str, number: int = 2) -> int:
    """The version of a cell, so that tests do not depend on each other's order."""
    body = (await ground.get(f"{GRADEBOOK}?view=teacher")).json()
    rows = {
        row["pupil_id"]: {mark["number"]: mark["version"] for mark in row["marks"]} for row in body["rows"]
    }
    found: int = rows[pupil][number]
    return found


async def gradebook(ground: Ground) -> bytes:
    return (await ground.get(f"{GRADEBOOK}?view=teacher")).content


async def homework_count(ground: Ground, text: str) -> int:
    body = (await ground.get(f"{HOMEWORK}?view=class&from=2026-09-01")).json()
    return sum(one["text"] == text for one in body["homework"])


async def call_roll(
    ground: Ground, pupil: str, state: str, *, at: str = SEEN_AT, path: str = ROLL
) -> httpx.Response:
    return await ground.write(
        "PUT", path, {"entries": [{"pupil_id": pupil, "state": state, "observed_at": at}]}
    )


async def blocked(ground: Ground) -> bool:
    """True once a statement of the datacenter waits for a lock."""
    rows = await ground.sql(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'massar-datacenter-writes' AND wait_event_type = 'Lock'"
    )
    return bool(rows)
