"""What a director says beside a write that it replays from the journal: when it was decided, and how it came out.

Invariant: only the own site's director may say so, and then it must; a gateway's write is judged now.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from sandbox.datacenter.admission import Admitted
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.writes import Recorded

DECIDED_AT = "massar-replay"
VERDICT = "massar-replay-verdict"
_SECONDS = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?")
_VERDICT = re.compile(r"([1-4][0-9]{2}) ([A-Za-z0-9_-]{43})")  # 43 characters are 32 bytes


class Replay(msgspec.Struct, frozen=True):
    """A write that was acknowledged before: at `decided_at`, with the verdict `recorded`."""

    decided_at: datetime
    recorded: Recorded

    @property
    def accepted(self) -> bool:
        """Whether it had an effect; a refusal is judged again, and must come out as one again."""
        return self.recorded.status < 400


def read_replay(admitted: Admitted, headers: Mapping[str, str]) -> Replay | None:
    """What the headers of a write say; None for a write of a gateway.

    Raises: Refused (`bad-request`).
    """
    decided_at, verdict = headers.get(DECIDED_AT), headers.get(VERDICT)
    if not admitted.replays:
        if decided_at is not None or verdict is not None:
            raise Refused("bad-request", "Massar-Replay: only this site's director replays")
        return None
    said = _VERDICT.fullmatch(verdict or "")
    if said is None or decided_at is None or _SECONDS.fullmatch(decided_at) is None:
        raise Refused(
            "bad-request", "Massar-Replay and Massar-Replay-Verdict: both are required of a director"
        )
    return Replay(
        decided_at=datetime.fromtimestamp(float(decided_at), UTC),
        recorded=Recorded(status=int(said[1]), digest=base64.urlsafe_b64decode(said[2] + "=")),
    )
