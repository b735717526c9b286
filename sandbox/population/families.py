"""Families: pupils with their guardians, siblings spread over the locality's schools.

Invariant: siblings share family name and guardians and are years apart; a guardian has one to four children.
In every locality the first family has a child in the sample class and two active guardians, and the second one
a guardian whose link to one of his children is revoked: so every country, however small, has both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import date
from random import Random

import msgspec

from sandbox.population.calendar import CALENDAR, instant
from sandbox.population.curriculum import Cycle, Level
from sandbox.population.identifiers import massar_code, opaque_id, phone
from sandbox.population.names import (
    BOYS,
    FAMILIES,
    FATHERS,
    GIRLS,
    MOTHERS,
    FullName,
    Spelling,
    full_name,
    pick,
)
from sandbox.population.schools import ClassRoom, Locality

CHILDREN_MAX = 4
_CHILDREN_SHARES = (0.38, 0.74, 0.93)  # at most one, two, three children; else four
_TWO_GUARDIANS_SHARE = 0.72
_MOTHER_ALONE_SHARE = 0.75
_TUTOR_SHARE = 0.06
_REVOKED_SHARE = 0.01
_REPEATER_SHARE = 0.10
_DISPENSED_CLASS_SHARE = 0.4
_SIBLINGS_SEEN_MAX = 12  # children met that no longer fit before a family stays smaller than it wished
DISPENSED_SUBJECT = "EPS"
_LINKED_ON = instant(CALENDAR.first_day)
_REVOKED_ON = instant(date(2026, 10, 12))


class Pupil(msgspec.Struct, frozen=True):
    """A pupil of a class; `number` is the place in the class's list, `rank` counts the locality's pupils from 0."""

    id: str
    rank: int
    massar_code: str
    name: FullName
    room: ClassRoom
    number: int
    birth_date: date
    dispensed: bool


class Link(msgspec.Struct, frozen=True):
    """A guardianship: `kind` is father, mother or tutor."""

    pupil: Pupil
    kind: str
    revoked: bool


class Guardian(msgspec.Struct, frozen=True):
    """A guardian and the links to his children; `number` is unique in the country."""

    id: str
    number: int
    name: FullName
    links: tuple[Link, ...]


class Families(msgspec.Struct, frozen=True):
    """All pupils of a locality (by rank) and all their guardians (family by family)."""

    pupils: tuple[Pupil, ...]
    guardians: tuple[Guardian, ...]

    def by_class(self) -> dict[int, list[Pupil]]:
        """The pupils of each class position, in the order of the class's list."""
        lists: dict[int, list[Pupil]] = {}
        for pupil in sorted(self.pupils, key=lambda pupil: (pupil.room.position, pupil.number)):
            lists.setdefault(pupil.room.position, []).append(pupil)
        return lists


class _Child(msgspec.Struct, frozen=True):
    room: ClassRoom
    name: FullName
    birth_date: date


class _Household(msgspec.Struct, frozen=True):
    name: Spelling
    children: tuple[_Child, ...]


def settle(locality: Locality) -> Families:
    """The families whose children fill the locality's classes exactly."""
    rng = locality.rng("families")
    households = [_household(rng, rooms) for rooms in _share_out(rng, locality)]
    children = [child for household in households for child in household.children]
    pupils = _enrol(rng, locality, children)
    guardians: list[Guardian] = []
    first = 0
    for index, household in enumerate(households):
        siblings = pupils[first : first + len(household.children)]
        first += len(siblings)
        revoked = index == 1 or (index > 1 and rng.random() < _REVOKED_SHARE)
        together = index <= 1 or revoked or rng.random() < _TWO_GUARDIANS_SHARE
        number = 1 + 2 * locality.first_pupil + len(guardians)
        guardians.extend(
            _guardians(rng, household.name, siblings, number=number, together=together, revoked=revoked)
        )
    return Families(pupils=pupils, guardians=tuple(guardians))


def _share_out(rng: Random, locality: Locality) -> Iterator[list[ClassRoom]]:
    """Every seat of every class once, in groups of one to four years of schooling: the families' children."""
    seats = [room for room in locality.classes for _ in range(room.size)]
    rng.shuffle(seats)
    for first in (locality.sample_class, _of_cycle(seats, Cycle.COLLEGIAL)):
        family = [first, _of_cycle(seats, Cycle.PRIMAIRE), _of_cycle(seats, Cycle.QUALIFIANT)]
        for room in family:
            seats.remove(room)
        yield family
    deck = deque(seats)
    while deck:
        wish = _children_wished(rng)
        family = [deck.popleft()]
        seen = 0
        while len(family) < wish and deck and seen < _SIBLINGS_SEEN_MAX:
            if any(room.level.rank == deck[0].level.rank for room in family):
                deck.rotate(-1)
                seen += 1
            else:
                family.append(deck.popleft())
        yield family


def _of_cycle(seats: list[ClassRoom], cycle: Cycle) -> ClassRoom:
    return next(room for room in seats if room.level.cycle is cycle)


def _children_wished(rng: Random) -> int:
    draw = rng.random()
    return 1 + sum(draw >= share for share in _CHILDREN_SHARES)


def _household(rng: Random, rooms: list[ClassRoom]) -> _Household:
    """Names and birth dates: siblings are born within two months of the same season, years apart."""
    family = pick(rng, FAMILIES)
    season = rng.randint(1, 11)
    repeats = len(rooms) == 1 and rng.random() < _REPEATER_SHARE
    given: set[str] = set()
    children: list[_Child] = []
    for room in rooms:
        name = _unused(rng, BOYS if rng.random() < 0.51 else GIRLS, given)
        born = date(
            _birth_year(room.level) - repeats, season + (rng.random() < 0.5), 1 + int(rng.random() * 28)
        )
        children.append(_Child(room=room, name=full_name(name, family), birth_date=born))
    return _Household(name=family, children=tuple(children))


def _unused(rng: Random, names: tuple[Spelling, ...], used: set[str]) -> Spelling:
    """A name that no sibling bears; `used` learns it."""
    name = pick(rng, names)
    while name.ar in used:
        name = pick(rng, names)
    used.add(name.ar)
    return name


def _birth_year(level: Level) -> int:
    """The year in which a pupil of this level was born who never repeated one."""
    return CALENDAR.year - 5 - level.rank


def _enrol(rng: Random, locality: Locality, children: list[_Child]) -> tuple[Pupil, ...]:
    """The children as pupils, numbered in each class by name, some of them dispensed from sport."""
    ranks: dict[int, list[int]] = {room.position: [] for room in locality.classes}
    for rank, child in enumerate(children):
        ranks[child.room.position].append(rank)
    numbers: dict[int, int] = {}
    dispensed: set[int] = set()
    for position, members in ranks.items():
        members.sort(key=lambda rank: (children[rank].name.fr, rank))
        numbers.update({rank: number for number, rank in enumerate(members, start=1)})
        if position == 0 or rng.random() < _DISPENSED_CLASS_SHARE:
            dispensed.add(rng.choice(members))
    letter = locality.province.region.letter
    return tuple(
        Pupil(
            id=opaque_id(rng),
            rank=rank,
            massar_code=massar_code(letter, locality.first_pupil + rank),
            name=child.name,
            room=child.room,
            number=numbers[rank],
            birth_date=child.birth_date,
            dispensed=rank in dispensed,
        )
        for rank, child in enumerate(children)
    )


def _guardians(
    rng: Random, family: Spelling, siblings: tuple[Pupil, ...], *, number: int, together: bool, revoked: bool
) -> list[Guardian]:
    """The family's one or two guardians; `revoked` ends the father's link to the first child."""
    if together:
        kinds: tuple[str, ...] = ("father", "mother")
    elif rng.random() < _TUTOR_SHARE:
        kinds = ("tutor",)
    else:
        kinds = ("mother",) if rng.random() < _MOTHER_ALONE_SHARE else ("father",)
    guardians: list[Guardian] = []
    for kind in kinds:
        given = pick(rng, MOTHERS if kind == "mother" else FATHERS)
        name = full_name(given, pick(rng, FAMILIES) if kind == "mother" else family)
        ended = siblings[0] if revoked and kind == "father" else None
        links = tuple(Link(pupil=pupil, kind=kind, revoked=pupil is ended) for pupil in siblings)
        guardians.append(Guardian(id=opaque_id(rng), number=number + len(guardians), name=name, links=links))
    return guardians


def pupil_row(pupil: Pupil) -> tuple[object, ...]:
    """A row of `pupils`."""
    return (
        pupil.id,
        pupil.massar_code,
        pupil.name.ar,
        pupil.name.fr,
        pupil.room.id,
        pupil.number,
        pupil.birth_date,
    )


def guardian_row(guardian: Guardian) -> tuple[object, ...]:
    """A row of `guardians`."""
    return (guardian.id, guardian.name.ar, guardian.name.fr, phone(guardian.number))


def guardianship_rows(families: Families) -> Iterator[tuple[object, ...]]:
    """Rows of `guardianships`."""
    for guardian in families.guardians:
        for link in guardian.links:
            status, at = ("revoked", _REVOKED_ON) if link.revoked else ("active", _LINKED_ON)
            yield (guardian.id, link.pupil.id, link.kind, status, at)


def dispensation_rows(families: Families) -> Iterator[tuple[object, ...]]:
    """Rows of `dispensations`."""
    for pupil in families.pupils:
        if pupil.dispensed:
            yield (pupil.id, DISPENSED_SUBJECT)
