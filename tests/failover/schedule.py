"""Which faults strike a country when, and what humans order: drawn from a seed, the same on every machine; pure.

Invariant: strikes do not overlap, so that each is judged by what it alone explains, but for the one that strikes a
switchover in its midst; and what is broken for good leaves one datacenter with its director and two of etcd's three
members.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

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


# Where a strike happens that concerns all members of etcd; and how long it may last from snapshot to return.
ETCD = "etcd"
RESTORED_S = 20.0
CRASHES = "crash"
# By step: which site's director takes it. In a failover nobody freezes and seals.
FAILOVER_STEPS = ("claim", "promotion", "fence", "begin of replay", "replay", "activation")
SWITCHOVER_STEPS: Mapping[str, str] = {
    "freeze": ACTIVE,
    "seal": ACTIVE,
    "sealed claim": STANDBY,
    "begin of replay": STANDBY,
    "activation": STANDBY,
}
MOMENTS = ("before", "after")


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
    snapshots: bool = False
    etcd: bool = False
    """Whether a member of etcd goes with it for good."""
    members: bool = False
    """Whether it needs all three members, some of which it starts again."""
    ordered: bool = False
    """Whether humans move the active role in it: both sites must be whole before, and as nobody can draw where it stands
    afterwards, nothing follows."""


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
    Fault("stop the majority", (*SITES, WITNESS), LONG_S, members=True),
    Fault("kill the leader", (ETCD,), LONG_S, members=True),
    Fault("restore etcd", (ETCD,), (RESTORED_S, RESTORED_S), snapshots=True, members=True),
    Fault("restore etcd after a move", (STANDBY,), (RESTORED_S, RESTORED_S), snapshots=True, members=True, ordered=True),
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
_ORDERS = (
    Fault(SWITCHOVER, (ACTIVE,), (0.0, 0.0), ordered=True),
    *(msgspec.structs.replace(kind, name=WITHIN + kind.name, ordered=True) for kind in _WITHIN),
    Fault(FAILBACK, (ACTIVE,), (0.0, 0.0), moves=True, ordered=True),
    Fault(KILLED_AGAIN, (ACTIVE,), (0.0, 0.0), moves=True, ordered=True),
    Fault(ORDERED_AGAIN, (ACTIVE,), (0.0, 0.0), moves=True, ordered=True),
)
_IN_A_FAILOVER = tuple(
    Fault(f"{CRASHES} {moment} {step} in a failover", (ACTIVE,), LONG_S, moves=True, for_good=True)
    for step in FAILOVER_STEPS for moment in MOMENTS
)  # fmt: skip
_IN_A_SWITCHOVER = tuple(
    Fault(f"{CRASHES} {moment} {step} in a switchover", (SITES[0],), LONG_S, ordered=True)
    for step in SWITCHOVER_STEPS for moment in MOMENTS
)  # fmt: skip
KINDS: tuple[Fault, ...] = (*_FAULTS, *_ORDERS, *_IN_A_FAILOVER, *_IN_A_SWITCHOVER)
_BY_NAME = {kind.name: kind for kind in KINDS}
# What `operator.py` does.
ORDERS = frozenset(kind.name for kind in _ORDERS)


class Means(msgspec.Struct, frozen=True):
    """What can be done to the country at hand."""

    network: bool
    filters: bool
    machines: bool = False
    volumes: bool = False
    snapshots: bool = False

    def allow(self, kind: Fault) -> bool:
        """Whether a fault of this kind can be done."""
        return (
            (self.network or not kind.network)
            and (self.filters or not kind.filters)
            and (self.machines or not kind.machine)
            and (self.volumes or not kind.volume)
            and (self.snapshots or not kind.snapshots)
        )


def on_machines(strikes: Sequence[Strike]) -> set[str]:
    """The sites whose processes must be started on a machine that can be afflicted."""
    return {strike.where for strike in strikes if (kind := _BY_NAME.get(strike.name)) and kind.machine}


def on_volumes(strikes: Sequence[Strike]) -> set[str]:
    """The sites whose database must lie on a small file system."""
    return {strike.where for strike in strikes if (kind := _BY_NAME.get(strike.name)) and kind.volume}


def options(strikes: Sequence[Strike]) -> tuple[str, ...]:
    """What the sandbox must be told for these strikes."""
    short = any(strike.name == KILLED_AGAIN for strike in strikes)
    return ("--dwell-s", str(SHORT_DWELL_S)) if short else ()


def draw(seed: str, means: Means, *, only: Sequence[str] = ()) -> tuple[Strike, ...]:
    """One to three strikes; the first of the kinds in `only` where given."""
    chance = random.Random(seed)
    # Of the many places to crash at a schedule knows two, or they would be most of what is drawn.
    drawable = (*_FAULTS, *_ORDERS, chance.choice(_IN_A_FAILOVER), chance.choice(_IN_A_SWITCHOVER))
    possible = [kind for kind in (KINDS if only else drawable) if means.allow(kind)]
    strikes: list[Strike] = []
    at_s = chance.uniform(*FIRST_AT_S)
    for _ in range(1 if only else chance.randint(1, STRIKES_MAX)):
        open_to_choice = [
            kind for kind in possible if _allowed(kind, strikes) and (not only or kind.name in only)
        ]
        if not open_to_choice:
            break
        kind = chance.choice(open_to_choice)
        where = chance.choice(_places(kind, strikes))
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
    done = [_BY_NAME[strike.name] for strike in before]
    if any(one.ordered for one in done) or (kind.ordered and any(one.for_good or one.moves for one in done)):
        return False
    if any((one.members and kind.etcd) or (one.etcd and kind.members) for one in done):
        return False
    if any(one.name == kind.name for one in done) or not _places(kind, before):
        return False
    if kind.filters and any(one.moves for one in done):
        return False  # the site's own traffic bites it, and there may be none any more
    if kind.for_good and any(one.for_good for one in done):
        return False
    return not (kind.moves and any(one.moves for one in done))


def _places(kind: Fault, before: Sequence[Strike]) -> tuple[str, ...]:
    """Where it may strike: not at a site of which nothing is left, nor what was killed there."""
    gone = {"kill site", "lose site", kind.name.replace("pause", "kill")}
    lost = {strike.where for strike in before if strike.name in gone}
    return tuple(place for place in kind.where if place not in lost)
