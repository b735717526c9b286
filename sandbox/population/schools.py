"""The school map: how N pupils fall into localities, schools and classes.

Invariant: a locality is one primary school, one collège and one lycée of a province, and is complete by itself:
families, teachers and timetables never cross its border. So a country of any size is made one locality at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec

from sandbox.population.curriculum import CURRICULUM, LEVELS, Cycle, Level, Taught
from sandbox.population.identifiers import gresa, opaque_id, stream
from sandbox.population.names import SCHOOLS, Spelling
from sandbox.population.territory import CAPITAL, PROVINCES, Province

PUPILS_MIN = 200
PUPILS_MAX = 200_000
CLASS_SIZE_MIN = 25
CLASS_SIZE_MAX = 40
SAMPLE_LEVEL = "2APIC"

_PUPILS_PER_LOCALITY = 1000
_PUPILS_PER_CLASS = 33
_MOVED_MAX = 6  # pupils that one class may hand to another when sizes are made uneven
_COLLEGE_SHARE = 0.3
_LYCEE_SHARE = 0.2

# Which lycée classes a locality opens, in this order; each locality begins a little further along.
_LYCEE_OFFER = (
    "TCSF",
    "1BACSEF",
    "2BACSPF",
    "TCLSH",
    "1BACSH",
    "2BACSH",
    "TCSF",
    "1BACSMF",
    "2BACSMA",
    "TCTF",
    "1BACSEG",
    "2BACSEC",
    "TCSA",
    "1BACSEF",
    "2BACSVTF",
    "TCLSH",
    "1BACLET",
    "2BACLET",
    "TCSF",
    "1BACSMF",
    "2BACSMB",
    "TCTF",
    "1BACSEG",
    "2BACSGC",
)
_TITLES = {
    Cycle.PRIMAIRE: ("مدرسة", "École"),
    Cycle.COLLEGIAL: ("الثانوية الإعدادية", "Collège"),
    Cycle.QUALIFIANT: ("الثانوية التأهيلية", "Lycée"),
}


class ClassRoom(msgspec.Struct, frozen=True):
    """A class of `size` pupils; `position` counts the locality's classes from 0, primary first."""

    position: int
    id: str
    level: Level
    name: str
    size: int

    @property
    def taught(self) -> tuple[Taught, ...]:
        """Its subjects, with hours and contrôles."""
        return CURRICULUM[self.level.code]


class School(msgspec.Struct, frozen=True):
    """A school of one cycle and its classes, lowest level first."""

    gresa: str
    name_ar: str
    name_fr: str
    cycle: Cycle
    classes: tuple[ClassRoom, ...]


class Locality(msgspec.Struct, frozen=True):
    """Three schools of a province; `first_pupil` is how many pupils the localities before it have."""

    seed: int
    number: int
    province: Province
    first_pupil: int
    pupils: int
    schools: tuple[School, ...]

    def rng(self, part: str) -> Random:
        """A generator of its own for one part of this locality."""
        return stream(self.seed, self.number, part)

    @property
    def classes(self) -> tuple[ClassRoom, ...]:
        """All classes, by position."""
        return tuple(room for school in self.schools for room in school.classes)

    @property
    def school_of(self) -> tuple[School, ...]:
        """The school of each class, by the class's position."""
        return tuple(school for school in self.schools for _ in school.classes)

    @property
    def sample_class(self) -> ClassRoom:
        """The first class of the sample level: the one the sample people of the first locality share."""
        return next(room for room in self.classes if room.level.code == SAMPLE_LEVEL)


def lay_out(seed: int, pupils: int) -> tuple[Locality, ...]:
    """The localities of a country of exactly `pupils` pupils, the first one in Rabat.

    Raises ValueError outside PUPILS_MIN to PUPILS_MAX.
    """
    if not PUPILS_MIN <= pupils <= PUPILS_MAX:
        message = f"pupils must be {PUPILS_MIN} to {PUPILS_MAX}, not {pupils}"
        raise ValueError(message)
    count = max(1, round(pupils / _PUPILS_PER_LOCALITY))
    others = [province for province in PROVINCES if province is not CAPITAL]
    stream(seed, "provinces").shuffle(others)
    order = [CAPITAL, *others]
    localities: list[Locality] = []
    first_pupil = 0
    for number in range(count):
        size = pupils * (number + 1) // count - first_pupil
        localities.append(
            _locality(
                seed, number=number, province=order[number % len(order)], first_pupil=first_pupil, pupils=size
            )
        )
        first_pupil += size
    return tuple(localities)


def _locality(seed: int, *, number: int, province: Province, first_pupil: int, pupils: int) -> Locality:
    rng = stream(seed, number, "schools")
    count = round(pupils / _PUPILS_PER_CLASS)
    lycee = max(1, round(count * _LYCEE_SHARE))
    college = max(2, round(count * _COLLEGE_SHARE))
    levels = (
        (Cycle.PRIMAIRE, _spread(("1AP", "2AP", "3AP", "4AP", "5AP", "6AP"), count - lycee - college)),
        (Cycle.COLLEGIAL, _spread(("1APIC", "2APIC", "3APIC"), college)),
        (Cycle.QUALIFIANT, _offer(number, lycee)),
    )
    sizes = _uneven(rng, pupils, count)
    sample = next(
        i for i, level in enumerate(code for _, codes in levels for code in codes) if level == SAMPLE_LEVEL
    )
    largest = sizes.index(max(sizes))
    sizes[sample], sizes[largest] = sizes[largest], sizes[sample]
    names = rng.sample(SCHOOLS, len(levels))
    rank = number // len(PROVINCES) * len(levels)
    schools: list[School] = []
    position = 0
    for (cycle, codes), name in zip(levels, names, strict=True):
        classes = _classes(rng, codes, sizes[position : position + len(codes)], position)
        schools.append(_school(province, rank=rank + len(schools), cycle=cycle, name=name, classes=classes))
        position += len(codes)
    return Locality(
        seed=seed,
        number=number,
        province=province,
        first_pupil=first_pupil,
        pupils=pupils,
        schools=tuple(schools),
    )


def _spread(codes: tuple[str, ...], count: int) -> tuple[str, ...]:
    """`count` classes over the levels, lowest first, as evenly as may be."""
    return tuple(codes[index * len(codes) // count] for index in range(count))


def _offer(number: int, count: int) -> tuple[str, ...]:
    first = number * 6 % len(_LYCEE_OFFER)
    codes = (_LYCEE_OFFER[(first + index) % len(_LYCEE_OFFER)] for index in range(count))
    return tuple(sorted(codes, key=lambda code: (LEVELS[code].rank, code)))


def _uneven(rng: Random, pupils: int, classes: int) -> list[int]:
    """Sizes that add up to `pupils`, each from CLASS_SIZE_MIN to CLASS_SIZE_MAX."""
    sizes = [pupils * (index + 1) // classes - pupils * index // classes for index in range(classes)]
    for giver in range(classes):
        taker = rng.randrange(classes)
        moved = min(rng.randrange(_MOVED_MAX), sizes[giver] - CLASS_SIZE_MIN, CLASS_SIZE_MAX - sizes[taker])
        if taker != giver:
            sizes[giver] -= moved
            sizes[taker] += moved
    return sizes


def _classes(
    rng: Random, codes: tuple[str, ...], sizes: list[int], first_position: int
) -> tuple[ClassRoom, ...]:
    classes: list[ClassRoom] = []
    for index, (code, size) in enumerate(zip(codes, sizes, strict=True)):
        name = f"{code}-{codes[: index + 1].count(code)}"
        classes.append(
            ClassRoom(
                position=first_position + index, id=opaque_id(rng), level=LEVELS[code], name=name, size=size
            )
        )
    return tuple(classes)


def _school(
    province: Province, *, rank: int, cycle: Cycle, name: Spelling, classes: tuple[ClassRoom, ...]
) -> School:
    title_ar, title_fr = _TITLES[cycle]
    return School(
        gresa=gresa(province.number, rank + 1),
        name_ar=f"{title_ar} {name.ar}",
        name_fr=f"{title_fr} {name.fr}",
        cycle=cycle,
        classes=classes,
    )


def school_rows(locality: Locality) -> Iterator[tuple[object, ...]]:
    """Rows of `schools`."""
    for school in locality.schools:
        yield (school.gresa, school.name_ar, school.name_fr, locality.province.code, school.cycle.value)


def class_rows(locality: Locality) -> Iterator[tuple[object, ...]]:
    """Rows of `classes`."""
    for school in locality.schools:
        for room in school.classes:
            yield (room.id, school.gresa, room.level.code, room.name)
