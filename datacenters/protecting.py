"""When the journal is not whole, and when the standby has what was written without it; pure but for counting.

Invariant: protection is given up beyond the policy's bound and when etcd was put back to an older state, and comes back
only when the standby has replayed beyond where the active datacenter stood after records were asked for again.
Source: docs/decisions/0008, docs/decisions/0018.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from datacenters import position
from datacenters.position import NOWHERE, Position
from datacenters.record import SERVING_PHASES, Protection, Record
from datacenters.verdict import Health, Observation

# What is observed in the first rounds may have been seen before records were asked for again.
ROUNDS_BEFORE = 2


class Journaled(msgspec.Struct, frozen=True):
    """How much lies in etcd: records of the journal, and bytes of everything."""

    records: int
    bytes: int


class Protecting:
    """Decides for the director of the active site; remembers from where on the standby must have everything."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._needed: Position | None = None
        self._rounds = 0
        self._rewound = False

    def rewound(self) -> None:
        """Hear that etcd was put back to an older state: records of the journal may be missing in it."""
        self._rewound = True

    def next(
        self, declared: Record, journaled: Journaled, observations: Mapping[str, Observation]
    ) -> tuple[Protection, str] | None:
        """What the record should say from now on, and why; None when it is right."""
        if declared.serving != self._site or declared.phase not in SERVING_PHASES:
            self._rewound = self._rewound and declared.serving is None
            return None
        if declared.protection is not Protection.RETURNING or self._rewound:
            self._needed, self._rounds = None, 0
        self._rewound = self._rewound and declared.protection is Protection.JOURNAL
        beyond = _beyond(declared, journaled)
        if beyond:
            return None if declared.protection is Protection.NONE else (Protection.NONE, beyond)
        standby = _standby(declared, observations)
        if declared.protection is Protection.NONE and standby is not None:
            return Protection.RETURNING, "the standby streams again; writes leave journal records"
        if self._rewound:
            return Protection.RETURNING, "etcd was put back to an older state: journal records may be missing"
        if declared.protection is Protection.RETURNING:
            return self._returned(declared, standby, observations)
        return None

    def _returned(
        self, declared: Record, standby: Health | None, observations: Mapping[str, Observation]
    ) -> tuple[Protection, str] | None:
        self._rounds += 1
        if self._needed is None:
            if self._rounds <= ROUNDS_BEFORE:
                return None
            own = _health(observations, self._site, declared.active)
            self._needed = _position(own) if own else None
            return None
        if standby is not None and _position(standby) >= self._needed:
            return Protection.JOURNAL, "the standby has every write that no record protects"
        return None


def _beyond(declared: Record, journaled: Journaled) -> str:
    policy = declared.policy
    if journaled.records > policy.journal_records_max:
        return f"the journal holds {journaled.records} records, at most {policy.journal_records_max} are kept"
    if journaled.bytes > policy.journal_bytes_max:
        return f"etcd holds {journaled.bytes} bytes, writes may use {policy.journal_bytes_max}"
    return ""


def _standby(declared: Record, observations: Mapping[str, Observation]) -> Health | None:
    """The streaming standby as its own site sees it."""
    for site in observations:
        if site == declared.active:
            continue
        health = _health(observations, site, site)
        if health is not None and health.role == "standby" and health.lag_s is not None:
            return health
    return None


def _health(observations: Mapping[str, Observation], site: str, datacenter: str) -> Health | None:
    seen = observations.get(site)
    look = seen.looks.get(datacenter) if seen else None
    return look.health if look is not None and look.answered else None


def _position(health: Health) -> Position:
    try:
        return position.parse(health.position)
    except ValueError:
        return NOWHERE
