"""Weather that must move nothing: lost packets, jitter and pauses of two seconds, one after the other; pure."""

from __future__ import annotations

import random

from sandbox.folder import SITES, WITNESS
from tests.failover.schedule import ACTIVE, Means, Strike

PAUSE_S = 2.0
WEATHER_S = (6.0, 12.0)
APART_S = (1.0, 3.0)
# Per phone, between two things it does: twenty minutes of it must still be judged, and boards be read whole.
PACE_S = (1.0, 2.0)
PAUSED = (
    "pause director",
    "pause gateway",
    "pause etcd",
    "pause datacenter",
    "pause postgres",
    "pause records",
)
WEATHER = ("lose packets", "jitter")
_AT_THE_ACTIVE = ("pause records", *WEATHER)
_EVERYWHERE = ("pause director", "pause etcd")


def draw_steady(seed: str, means: Means, *, for_s: float) -> tuple[Strike, ...]:
    """Strikes for so many seconds, none of which explains a move."""
    chance = random.Random(f"steady {seed}")
    names = (*PAUSED, *(WEATHER if means.network and means.filters else ()))
    strikes: list[Strike] = []
    at_s = 3.0
    while at_s < for_s:
        name = chance.choice(names)
        places = (*SITES, WITNESS) if name in _EVERYWHERE else SITES
        lasts_s = round(chance.uniform(*WEATHER_S), 2) if name in WEATHER else PAUSE_S
        where = ACTIVE if name in _AT_THE_ACTIVE else chance.choice(places)
        strikes.append(
            Strike(
                name=name,
                where=where,
                at_s=round(at_s, 2),
                lasts_s=lasts_s,
                explains_beyond_short=name in PAUSED,
            )
        )
        at_s += lasts_s + chance.uniform(*APART_S)
    return tuple(strikes)
