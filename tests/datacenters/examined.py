"""A check-up in which all is well, to be spoiled one thing at a time."""

from __future__ import annotations

from typing import Any

import msgspec

from datacenters.audit_chain import START, Walk
from datacenters.checkup import Checkup
from datacenters.clocks import Offset
from datacenters.etcd_members import Member
from datacenters.ground import Disk, Ground, Slot
from datacenters.key_files import KeyFile
from datacenters.preflight import Situation
from tests.datacenters.worlds import NOW, all_well, declared

MIB = 1024 * 1024
SITES = ("marrakech", "rabat", "witness")
GROUND = Ground(
    slots=(Slot("marrakech", True, MIB, 512 * MIB, "reserved"),),
    disks=(Disk("/srv/postgres", 60 * MIB, 100 * MIB),),
)
MEMBERS = tuple(
    Member(
        url=f"http://{site}:2379", version="3.5.21", name_of_itself=n, leader=1, size=10 * MIB, size_in_use=8 * MIB,
        quota=100 * MIB, members=SITES,
    )
    for n, site in enumerate(SITES, 1)
)  # fmt: skip


def situation(ground: Ground = GROUND, **changes: Any) -> Situation:
    seen = all_well()
    seen["rabat"] = msgspec.structs.replace(seen["rabat"], ground=ground, wall_at=NOW)
    return msgspec.structs.replace(Situation(record=declared(), observations=seen), **changes)


def well(**changes: Any) -> Checkup:
    made = Checkup(
        now=NOW + 3600,
        sandbox=False,
        members=MEMBERS,
        majority=True,
        situation=situation(),
        expected=SITES,
        journal_bytes=0,
        clocks={site: Offset(0.05, 0.06) for site in SITES},
        keys=(KeyFile("/etc/massar/keys/gateway-rabat.pem", "assertion key"),),
        chain=Walk(rows=1, volume=500, head=START, last=declared(), broken=None, lacking=()),
    )
    return msgspec.structs.replace(made, **changes)


def members(**changes: Any) -> tuple[Member, ...]:
    """The members, the last of them changed."""
    return (*MEMBERS[:2], msgspec.structs.replace(MEMBERS[2], **changes))
