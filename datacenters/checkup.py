"""What a check-up looks at, and what a finding is; pure.

Invariant: every check says a sentence also when all is well, so that what was not looked at is never taken for good;
each has its page docs/runbooks/{check}.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from datacenters.audit_chain import Walk
from datacenters.clocks import Offset
from datacenters.etcd_members import Member
from datacenters.key_files import KeyFile
from datacenters.preflight import Situation

RUNBOOKS = "docs/runbooks"


class State(StrEnum):
    """WRONG needs somebody now; NOTICE is worth knowing."""

    OK = "ok"
    NOTICE = "notice"
    WRONG = "wrong"


class Check(StrEnum):
    """What is checked; the name of its runbook."""

    ETCD_MAJORITY_LOST = "etcd-majority-lost"
    ETCD_MEMBER_AWAY = "etcd-member-away"
    ETCD_PUT_BACK = "etcd-put-back"
    ETCD_VERSION = "etcd-version"
    ETCD_FULL = "etcd-full"
    ETCD_ALARM = "etcd-alarm"
    FAILOVER_UNSAFE = "failover-unsafe"
    NOT_AUTOMATIC = "not-automatic"
    MOVE_STUCK = "move-stuck"
    WRITES_AT_RISK = "writes-at-risk"
    JOURNAL_GROWN = "journal-grown"
    PARKED_WRITES = "parked-writes"
    REPLICATION_SLOT = "replication-slot"
    DISK_FULL = "disk-full"
    DIRECTOR_SILENT = "director-silent"
    CLOCK_SKEW = "clock-skew"
    KEY_FILES = "key-files"
    CERTIFICATE_EXPIRY = "certificate-expiry"
    AUDIT_BROKEN = "audit-broken"
    AUDIT_GROWN = "audit-grown"


class Finding(msgspec.Struct, frozen=True):
    """One check's outcome in a sentence, and the page that says what to do."""

    check: Check
    state: State
    sentence: str
    runbook: str


class Checkup(msgspec.Struct, frozen=True):
    """All that was looked at; what is None was not, or could not be.

    `expected` are the sites whose directors should publish; `journal_bytes` is None when it is too long to be weighed.
    """

    now: float
    sandbox: bool
    members: tuple[Member, ...]
    majority: bool
    situation: Situation | None = None
    expected: tuple[str, ...] = ()
    journal_bytes: int | None = None
    clocks: Mapping[str, Offset] | None = None
    keys: tuple[KeyFile, ...] | None = None
    keys_missing: tuple[str, ...] = ()
    chain: Walk | None = None


# What a check says: how it stands, and why.
Said = tuple[State, str]


def mib(size: int) -> str:
    """A size for people."""
    return f"{size / 1_048_576:.1f} MiB"
