"""Where everything lies in etcd; one place, so that no two modules can disagree.

Invariant: every key of ours begins with `massar/`.
"""

from __future__ import annotations

from datacenters.position import Position

ROOT = "massar/"
CONTROL = ROOT + "control"
EPOCH = ROOT + "epoch"
OBSERVATIONS = ROOT + "observations/"
DENIALS = ROOT + "denials/"
PURGES = ROOT + "purges/"
SOFT_PURGES = PURGES + "soft/"  # heard by the same feed
JOURNAL = ROOT + "journal/"
PARKED = ROOT + "parked/"
RETRIED = ROOT + "retried/"
AUDIT = ROOT + "audit/"
PROTECTION = ROOT + "protection"
AUDIT_HEAD = ROOT + "audit-head"
AUDIT_AND_HEAD = ROOT + "audit"


def observation(site: str) -> str:
    """What the director of `site` sees, under a lease."""
    return OBSERVATIONS + site


def audit(sequence: int) -> str:
    """The row that keeps the change of this number for ever."""
    return f"{AUDIT}{sequence:012d}"


def journal(at: Position, name: str) -> str:
    """The journal record of one write; keys sort by the position from which on a standby has the write."""
    return f"{journal_end(at)}{name}"


def journal_end(at: Position) -> str:
    """What sorts after every record before `at`, and before every one from it on."""
    return f"{JOURNAL}{at[0]:010d}/{at[1]:020d}/"


def parked(ordering: str, key: str) -> str:
    """Where the record of `key` waits for a human, beside the later ones of the same ordering key (its digest)."""
    return f"{PARKED}{ordering}/{_place(key)}"


def retried(ordering: str, key: str) -> str:
    """Where the parked record of `key` waits to be judged once more by the active datacenter."""
    return f"{RETRIED}{ordering}/{_place(key)}"


def _place(key: str) -> str:
    """Timeline, position and name, which a record's key ends in wherever it lies."""
    return "/".join(key.split("/")[-3:])
