"""Looking every few seconds at the ground a site stands on: replication slots and the room on its disks.

Invariant: a survey that fails or hangs delays nothing else of the director, and says by its kind that it failed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from datacenters.fence import connect
from datacenters.ground import DISKS_MAX, SLOTS_MAX, Disk, Ground, Slot

SURVEY_EVERY_S = 5.0
SURVEY_WITHIN_S = 3.0
STATEMENT_S = 2.0

_SLOTS = f"""
SELECT slot_name, active, coalesce(wal_status, 'lost') AS wal_status,
       greatest(0, coalesce(pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
           restart_lsn), 0))::bigint AS retained,
       (SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS bound
FROM pg_replication_slots ORDER BY slot_name LIMIT {SLOTS_MAX}
"""  # noqa: S608 - one constant of ours
_FOLDER = "SELECT setting FROM pg_settings WHERE name = 'data_directory'"


class Surveyor:
    """Keeps `latest` no older than a few seconds; `folders` are watched beside PostgreSQL's own."""

    def __init__(
        self,
        dsn: str | None,
        *,
        folders: Sequence[Path] = (),
        every_s: float = SURVEY_EVERY_S,
        within_s: float = SURVEY_WITHIN_S,
    ) -> None:
        self._dsn = dsn
        self._folders = tuple(str(folder) for folder in folders)
        self._every_s = every_s
        self._within_s = within_s
        self.latest: Ground | None = None
        """What the newest survey found; None before the first."""

    async def run(self) -> None:
        """Survey until cancelled."""
        while True:
            self.latest = await self.survey()
            await asyncio.sleep(self._every_s)

    async def survey(self) -> Ground:
        """One look, within a bound."""
        slots: tuple[Slot, ...] = ()
        folders = self._folders
        failure = None
        if self._dsn is not None:
            try:
                async with asyncio.timeout(self._within_s):
                    slots, own = await _asked(self._dsn)
                folders = (*own, *folders)
            except Exception as error:  # noqa: BLE001 - whatever it is, the director goes on and the survey says so
                failure = type(error).__name__
        # A file system that hangs (a lost network disk) must not hang the director's own loop.
        disks = await asyncio.to_thread(_disks, folders[:DISKS_MAX])
        return Ground(slots=slots, disks=disks, failure=failure)


async def _asked(dsn: str) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
    connection = await connect(dsn, statement_s=STATEMENT_S)
    try:
        rows = await connection.fetch(_SLOTS)
        folder = await connection.fetchval(_FOLDER)
    finally:
        connection.terminate()
    slots = tuple(
        Slot(
            name=row["slot_name"],
            active=row["active"],
            retained_bytes=row["retained"],
            bound_bytes=row["bound"] if row["bound"] is not None and row["bound"] >= 0 else None,
            wal_status=row["wal_status"],
        )
        for row in rows
    )
    return slots, (folder,) if folder else ()


def _disks(folders: Sequence[str]) -> tuple[Disk, ...]:
    found = []
    for folder in folders:
        try:
            room = os.statvfs(folder)
        except OSError:
            continue  # on another machine, or closed to this process
        found.append(Disk(folder, room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize))
    return tuple(found)
