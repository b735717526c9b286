"""Which faults strike a country when, and what humans order: drawn from a seed, the same on every machine; pure.

Invariant: strikes do not overlap, so that each is judged by what it alone explains, but for the one that strikes a
switchover in its midst; and what is broken for good leaves one datacenter with its director and two of etcd's three
members.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from datacenters.record import Phase
from sandbox.folder import SITES, WITNESS

ACTIVE, STANDBY = SITES
FIRST_AT_S = (3.0, 6.0)
APART_S = (3.0, 6.0)
STRIKES_MAX = 3
# A move needs 2.4 s without a word; what lasts no longer than this must move nothing.
SHORT_S = 2.2
LONG_S = (6.0, 12.0)
GRAY_S = 16.0
FOR_GOOD_S = 10.0


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: what, where, from when after the load began and for how long.

    `explains`: sites from which an automatic move is right because of it. `for_good`: nothing mends it.
    """

    name: str
    where: str
    at_s: float
    lasts_s: float
    explains: tuple[str, ...] = ()
    explains_beyond_short: bool = False
    """A move is right all the same when the strike lasted longer than `SHORT_S`."""
    for_good: bool = False
    phase: str = ""
    """Of a fault within a switchover: the phase that it waits for."""


class Fault(msgspec.Struct, frozen=True):
    """One kind of fault or of orders, and what it needs."""

    name: str
    where: tuple[str, ...]
    lasts_s: tuple[float, float]
    moves: bool = False
    """Whether a move away from the active site is right when it strikes there."""
    for_good: bool = False
    network: bool = False
    filters: bool = False
    machine: bool = False
    """Whether the site's processes must have been started on a machine of `machines.py`."""
    volume: bool = False
    """Whether the site's database must lie on a small file system of its own."""
    etcd: bool = False
    """Whether a member of etcd goes with it for good."""
    orders: bool = False
    """Whether humans move the active role in it; nobody can draw where it stands afterwards, so nothing follows."""


_KEEPS = (0.5, 1.5)
_FAULTS = (
    Fault("kill site", (ACTIVE,), (FOR_GOOD_S, FOR_GOOD_S), moves=True, for_good=True, etcd=True),
    Fault("lose site", (*SITES, WITNESS), (FOR_GOOD_S, FOR_GOOD_S), moves=True, for_good=True, etcd=True),
    Fault("kill datacenter", (ACTIVE,), (FOR_GOOD_S, FOR_GOOD_S), moves=True, for_good=True),
    Fault("kill postgres", (ACTIVE,), (FOR_GOOD_S, FOR_GOOD_S), moves=True, for_good=True),
    Fault("kill gateway", SITES, (2.0, 4.0), for_good=True),
    Fault("kill valkey", SITES, (2.0, 4.0), for_good=True),
    Fault("kill etcd", (*SITES, WITNESS), (4.0, 6.0), for_good=True, etcd=True),
    Fault("kill director", (WITNESS,), (2.0, 4.0), for_good=True),
    Fault("pause director", (*SITES, WITNESS), (1.0, 8.0)),
    Fault("pause gateway", SITES, (1.0, 8.0)),
    Fault("pause etcd", (*SITES, WITNESS), (1.0, 8.0)),
    Fault("pause records", (ACTIVE,), _KEEPS),
    Fault("pause records long", (ACTIVE,), LONG_S, moves=True),
    Fault("isolate", (ACTIVE,), LONG_S, moves=True, network=True),
    Fault("isolate from sites", (ACTIVE,), LONG_S, moves=True, network=True),
    Fault("isolate shortly", (ACTIVE,), _KEEPS, network=True),
    Fault("bridge", (ACTIVE,), LONG_S, network=True),
    Fault("one way out", (ACTIVE,), LONG_S, moves=True, network=True),
    Fault("one way in", (ACTIVE,), LONG_S, moves=True, network=True),
    Fault("one way to the standby", (ACTIVE,), LONG_S, network=True),
    Fault("cut phones", SITES, LONG_S, network=True),
    Fault("flap the bridge", (ACTIVE,), (10.0, 15.0), network=True),
    Fault("isolate standby", (STANDBY,), LONG_S, network=True),
    Fault("isolate witness", (WITNESS,), LONG_S, network=True),
    Fault("lose packets", (ACTIVE,), LONG_S, network=True, filters=True),
    Fault("jitter", (ACTIVE,), LONG_S, network=True, filters=True),
    Fault("gray errors", (ACTIVE,), LONG_S, network=True, filters=True),
    Fault("gray silence", (ACTIVE,), (GRAY_S, GRAY_S), moves=True, network=True, filters=True),
    # As long as users must fail before that moves anything: no clock may.
    Fault("clock ahead", (*SITES, WITNESS), (GRAY_S, GRAY_S), machine=True),
    Fault("clock behind", (*SITES, WITNESS), (GRAY_S, GRAY_S), machine=True),
    Fault("clock drift", (*SITES, WITNESS), (GRAY_S, GRAY_S), machine=True),
    Fault("slow disk", SITES, (GRAY_S, GRAY_S), machine=True),
    Fault("stalled disk", (ACTIVE,), (GRAY_S, GRAY_S), moves=True, machine=True),
    # PostgreSQL ends when it cannot write its log, and nothing in a sandbox starts again by itself.
    Fault("full disk", SITES, (GRAY_S, GRAY_S), moves=True, for_good=True, volume=True),
)  # fmt: skip

# What strikes a planned switchover from Rabat to Marrakech in its midst. What is killed is revived, so that the country
# must be whole again.
_WITHIN = (
    Fault("kill site", SITES, (4.0, 8.0), moves=True),
    Fault("kill datacenter", SITES, (4.0, 8.0), moves=True),
    Fault("kill postgres", SITES, (4.0, 8.0), moves=True),
    Fault("kill gateway", SITES, (2.0, 4.0)),
    Fault("kill director", SITES, (4.0, 8.0)),
    Fault("pause director", (*SITES, WITNESS), (1.0, 8.0)),
    Fault("pause gateway", SITES, (1.0, 8.0)),
    Fault("pause etcd", (*SITES, WITNESS), (1.0, 8.0)),
    Fault("pause records long", SITES, LONG_S, moves=True),
    Fault("isolate", (ACTIVE,), LONG_S, moves=True, network=True),
    Fault("isolate from sites", SITES, LONG_S, moves=True, network=True),
    Fault("bridge", (ACTIVE,), LONG_S, network=True),
    Fault("one way to the standby", (ACTIVE,), LONG_S, network=True),
    Fault("isolate witness", (WITNESS,), LONG_S, network=True),
)
SWITCHOVER = "switchover"
WITHIN = f"{SWITCHOVER} + "
FAILBACK = "failback"
KILLED_AGAIN = f"{FAILBACK}, killed again"
ORDERED_AGAIN = f"{FAILBACK}, failover ordered"
# At each of these a switchover may be struck; the last one is too short for wires to be cut in.
PHASES = (Phase.FREEZING, Phase.SEALING, Phase.PROMOTING, Phase.REPLAYING)
# For the schedule that waits for a second automatic move: a real country lets a quarter of an hour pass.
SHORT_DWELL_S = 20
KINDS: tuple[Fault, ...] = (
    *_FAULTS,
    Fault(SWITCHOVER, (ACTIVE,), (0.0, 0.0), orders=True),
    *(msgspec.structs.replace(kind, name=WITHIN + kind.name, orders=True) for kind in _WITHIN),
    Fault(FAILBACK, (ACTIVE,), (0.0, 0.0), moves=True, orders=True),
    Fault(KILLED_AGAIN, (ACTIVE,), (0.0, 0.0), moves=True, orders=True),
    Fault(ORDERED_AGAIN, (ACTIVE,), (0.0, 0.0), moves=True, orders=True),
)
ORDERS = frozenset(kind.name for kind in KINDS if kind.orders)
_ON_MACHINES = frozenset(kind.name for kind in KINDS if kind.machine)
_ON_VOLUMES = frozenset(kind.name for kind in KINDS if kind.volume)


class Means(msgspec.Struct, frozen=True):
    """What can be done to the country at hand."""

    network: bool
    filters: bool
    machines: bool = False
    volumes: bool = False

    def allow(self, kind: Fault) -> bool:
        """Whether a fault of this kind can be done."""
        return (
            (self.network or not kind.network)
            and (self.filters or not kind.filters)
            and (self.machines or not kind.machine)
            and (self.volumes or not kind.volume)
        )


def on_machines(strikes: Sequence[Strike]) -> set[str]:
    """The sites whose processes must be started on a machine that can be afflicted."""
    return {strike.where for strike in strikes if strike.name in _ON_MACHINES}


def on_volumes(strikes: Sequence[Strike]) -> set[str]:
    """The sites whose database must lie on a small file system."""
    return {strike.where for strike in strikes if strike.name in _ON_VOLUMES}


def options(strikes: Sequence[Strike]) -> tuple[str, ...]:
    """What the sandbox must be told for these strikes."""
    short = any(strike.name == KILLED_AGAIN for strike in strikes)
    return ("--dwell-s", str(SHORT_DWELL_S)) if short else ()


def draw(seed: str, means: Means, *, only: Sequence[str] = ()) -> tuple[Strike, ...]:
    """One to three strikes; the first of the kinds in `only` where given."""
    chance = random.Random(seed)
    possible = [kind for kind in KINDS if means.allow(kind)]
    strikes: list[Strike] = []
    at_s = chance.uniform(*FIRST_AT_S)
    for _ in range(1 if only else chance.randint(1, STRIKES_MAX)):
        open_to_choice = [
            kind for kind in possible if _allowed(kind, strikes) and (not only or kind.name in only)
        ]
        if not open_to_choice:
            break
        kind = chance.choice(open_to_choice)
        where = chance.choice(kind.where)
        lasts_s = round(chance.uniform(*kind.lasts_s), 2)
        strikes.append(
            Strike(
                name=kind.name,
                where=where,
                at_s=round(at_s, 2),
                lasts_s=lasts_s,
                explains=(where,) if kind.moves else (),
                explains_beyond_short=kind.lasts_s == _KEEPS,
                for_good=kind.for_good,
                phase=chance.choice(PHASES[:3] if kind.network else PHASES)
                if kind.name.startswith(WITHIN)
                else "",
            )
        )
        at_s += lasts_s + chance.uniform(*APART_S)
    return tuple(strikes)


def _allowed(kind: Fault, before: Sequence[Strike]) -> bool:
    """At most one strike for good, and at most one that moves: the policy allows no second move for 15 minutes.

    Humans order only what a whole country can do, and last.
    """
    if any(strike.name == kind.name or strike.name in ORDERS for strike in before):
        return False
    if kind.orders and any(strike.for_good or strike.explains for strike in before):
        return False
    if kind.for_good and any(strike.for_good for strike in before):
        return False
    return not (kind.moves and any(strike.explains for strike in before))
