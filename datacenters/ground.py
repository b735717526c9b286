"""What a site alone can see of the ground it stands on, as its director publishes it; pure.

Invariant: small and bounded, sizes and names of folders and slots only, nothing about anybody.
"""

from __future__ import annotations

import msgspec

SLOTS_MAX = 8
DISKS_MAX = 8


class Slot(msgspec.Struct, frozen=True):
    """A replication slot of this site's PostgreSQL: what it makes it keep, and the bound (None: unbounded)."""

    name: str
    active: bool
    retained_bytes: int
    bound_bytes: int | None
    wal_status: str


class Disk(msgspec.Struct, frozen=True):
    """The room of the file system under one folder."""

    folder: str
    free_bytes: int
    total_bytes: int


class Ground(msgspec.Struct, frozen=True):
    """What one survey found; `failure` names the kind of error where PostgreSQL could not be asked."""

    slots: tuple[Slot, ...] = ()
    disks: tuple[Disk, ...] = ()
    failure: str | None = None
