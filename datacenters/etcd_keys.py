"""Where everything lies in etcd; one place, so that no two modules can disagree.

Invariant: every key of ours begins with `massar/`.
"""

from __future__ import annotations

ROOT = "massar/"
CONTROL = ROOT + "control"
EPOCH = ROOT + "epoch"
OBSERVATIONS = ROOT + "observations/"
DENIALS = ROOT + "denials/"
PURGES = ROOT + "purges/"
AUDIT = ROOT + "audit/"


def observation(site: str) -> str:
    """What the director of `site` sees, under a lease."""
    return OBSERVATIONS + site


def audit(epoch: int, decided_at: float) -> str:
    """The row that keeps one change for ever; rows sort by epoch, then time."""
    return f"{AUDIT}{epoch:010d}/{round(decided_at * 1000):013d}"
