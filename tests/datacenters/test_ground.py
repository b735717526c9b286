"""What is published of the ground is small, survives its encoding, and older directors' words go on being read."""

from __future__ import annotations

import msgspec

from datacenters.ground import DISKS_MAX, SLOTS_MAX, Disk, Ground, Slot
from datacenters.verdict import Observation

FULL = Ground(
    slots=tuple(Slot("s" * 63, True, 2**40, 2**40, "unreserved") for _ in range(SLOTS_MAX)),
    disks=tuple(Disk("/" + "d" * 120, 2**50, 2**50) for _ in range(DISKS_MAX)),
    failure="ConnectionDoesNotExistError",
)


def test_the_largest_ground_stays_small() -> None:
    assert len(msgspec.json.encode(FULL)) < 4096


def test_it_travels_in_an_observation_and_may_be_absent() -> None:
    seen = Observation(site="rabat", sequence=1, looks={}, wall_at=1.0, ground=FULL)
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Observation) == seen
    before = msgspec.json.decode(b'{"site":"rabat","sequence":1,"looks":{}}', type=Observation)
    assert before.ground is None
