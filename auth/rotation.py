"""What presenting a refresh token means: pure, so that every order of events can be tried.

Invariant: of one family one sequence number is open at any time. Presenting the open one opens the next; presenting
an older one kills the family, but for the device that lost the answer to its last exchange and asks again at once.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

REPEAT_WITHIN_S = 30.0


class Exchange(StrEnum):
    """What is to be done with a presented refresh token."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REUSED = "reused"
    REFUSE = "refuse"


class Family(msgspec.Struct, frozen=True):
    """What the accounts database knows: the newest sequence issued, and when it replaced its predecessor."""

    sequence: int
    exchanged_at: float | None
    live: bool


def judge(family: Family, *, sequence: int, same_device: bool, now: float) -> Exchange:
    """Decide about a token of `family` with a signed `sequence`; times in Unix seconds.

    A sequence ahead of the stored one was issued by a site that was lost before its last exchange was copied: it
    is taken as the newest, once, because it is stored by that. One behind is reuse (RFC 9700 §4.14.2), except for
    the predecessor of the newest, from its own device, within REPEAT_WITHIN_S of the exchange: then the phone did
    not get the answer. A token of the right sequence on another device opens nothing and changes nothing.
    """
    if not family.live:
        return Exchange.REFUSE
    if sequence >= family.sequence:
        return Exchange.ROTATE if same_device else Exchange.REFUSE
    just_exchanged = family.exchanged_at is not None and now - family.exchanged_at <= REPEAT_WITHIN_S
    if same_device and just_exchanged and sequence == family.sequence - 1:
        return Exchange.REPEAT
    return Exchange.REUSED
