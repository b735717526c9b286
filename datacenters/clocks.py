"""How far the sites' clocks are from this one's, from the moments at which their directors' words appear in etcd.

Invariant: an offset is never claimed to be known better than the round trips that bracket it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from datacenters import etcd_keys
from datacenters.etcd import Etcd
from datacenters.verdict import Observation

LISTEN_S = 1.5
POLL_S = 0.02
# Between a director's look at its clock and its word in etcd lie two calls to etcd.
PUBLISHING_S = 0.1


class Offset(msgspec.Struct, frozen=True):
    """A site's clock minus this one's, and how far that may be wrong; both in seconds."""

    offset_s: float
    uncertainty_s: float


async def offsets(
    etcd: Etcd,
    *,
    listen_s: float = LISTEN_S,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, Offset]:
    """The offsets of all directors that publish while this listens; the best of several measurements each.

    Raises: EtcdUnavailable.
    """
    best: dict[str, Offset] = {}
    sequences: dict[str, int] = {}
    asked_before: float | None = None
    until = monotonic() + listen_s
    while monotonic() < until:
        asked, began = wall(), monotonic()
        listing = await etcd.range(etcd_keys.OBSERVATIONS, prefix=True)
        heard = asked + (monotonic() - began)
        for item in listing.items:
            seen = _decoded(item.value)
            if seen is None or not seen.wall_at:
                continue
            known = sequences.get(seen.site)
            sequences[seen.site] = seen.sequence
            if known is None or known == seen.sequence or asked_before is None:
                continue
            measured = _bracketed(seen.wall_at, asked_before, heard)
            if seen.site not in best or measured.uncertainty_s < best[seen.site].uncertainty_s:
                best[seen.site] = measured
        asked_before = asked
        await asyncio.sleep(POLL_S)
    return best


def _bracketed(wall_at: float, earliest: float, latest: float) -> Offset:
    """The offset of a clock that said `wall_at` between these two moments of ours, or a little before the first."""
    earliest -= PUBLISHING_S
    middle, half = (earliest + latest) / 2, (latest - earliest) / 2
    return Offset(offset_s=round(wall_at - middle, 4), uncertainty_s=round(half, 4))


def _decoded(raw: bytes) -> Observation | None:
    try:
        return msgspec.json.decode(raw, type=Observation)
    except msgspec.MsgspecError:
        return None
