"""Who shares a cache key gets the same bytes, however they were come by: what lets one entry serve a whole class."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from datetime import date
from random import Random

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.principal import Role
from datacenters import assertion, notices, position
from datacenters.sender_keys import read_private_key
from gateway.reading import calendar_source
from routes.absences import absences_source
from routes.announcements import announcements_source
from routes.classes import roster_source
from routes.endpoint import Source
from routes.gradebooks import gradebook_source
from routes.grades import grades_source
from routes.homework import done_source, homework_source
from routes.me import profile_source
from routes.teachers import assignments_source
from routes.timetables import timetable_source
from sandbox.folder import SITES
from tests.countries import RunningCountry
from tests.journeys.lines import Line, lines
from tests.journeys.people import Mint
from tests.waiting import eventually

EXAMPLES_MAX = 25
DIRECT_EXAMPLES_MAX = 5
PURGED_WITHIN_S = 5.0
FROM = st.dates(date(2026, 9, 2), date(2026, 12, 20)).map(str)
WEEK = st.integers(36, 53).map("2026-W{:02}".format)
SESSION = st.sampled_from(["1", "2"])
WHICH = st.integers(0, 10_000)
# Another rhythm than the gateways', so that all four pairs of sites come up.
DATACENTERS = ("rabat", "rabat", "marrakech", "marrakech")

SOURCES = {
    "calendar": calendar_source,
    "timetable": timetable_source,
    "homework": homework_source,
    "announcements": announcements_source,
    "roster": roster_source,
    "grades": grades_source,
    "absences": absences_source,
    "homework done": done_source,
    "assignments": assignments_source,
    "gradebook": gradebook_source,
    "profile": profile_source,
}


class Circle(msgspec.Struct, frozen=True):
    """A pupil with two guardians, a classmate, and two teachers of the class with a subject each."""

    pupil: str
    classmate: str
    class_id: str
    guardians: tuple[str, str]
    teachers: tuple[str, str]
    subjects: tuple[str, str]

    def everybody(self) -> list[tuple[Role, str]]:
        """All who may read the class's timetable."""
        return [
            (Role.STUDENT, self.pupil),
            (Role.STUDENT, self.classmate),
            *((Role.PARENT, guardian) for guardian in self.guardians),
            *((Role.TEACHER, teacher) for teacher in self.teachers),
        ]


@pytest.fixture(scope="module")
async def circles(records: asyncpg.Connection) -> list[Circle]:
    """Every pupil who has two guardians."""
    rows = await records.fetch(
        """
        SELECT pupils.id, pupils.class_id, array_agg(guardian ORDER BY guardian) AS guardians,
               (SELECT array_agg(id ORDER BY id) FROM pupils AS mates WHERE mates.class_id = pupils.class_id) AS mates,
               (SELECT array_agg(DISTINCT teacher) FROM assignments WHERE class_id = pupils.class_id) AS teachers
        FROM pupils JOIN guardianships ON pupil = pupils.id AND status = 'active'
        GROUP BY pupils.id, pupils.class_id HAVING count(*) = 2 ORDER BY pupils.id
        """
    )
    subjects = {
        (row["teacher"], row["class_id"]): row["subject"]
        for row in await records.fetch(
            "SELECT teacher, class_id, subject FROM assignments ORDER BY subject DESC"
        )
    }
    return [
        Circle(
            pupil=row["id"],
            classmate=next(mate for mate in row["mates"] if mate != row["id"]),
            class_id=row["class_id"],
            guardians=(row["guardians"][0], row["guardians"][1]),
            teachers=(row["teachers"][0], row["teachers"][-1]),
            subjects=tuple(subjects[row["teachers"][which], row["class_id"]] for which in (0, -1)),
        )
        for row in rows
    ]


# The datacenters, asked directly


class Datacenters:
    """Both datacenters as the gateways see them."""

    def __init__(self, country: RunningCountry, client: httpx.AsyncClient) -> None:
        self._urls = country.addresses.datacenters
        self._client = client
        self._keys = {
            site: read_private_key(country.directory / "keys" / f"gateway-{site}.pem") for site in SITES
        }
        self.epoch = 0

    async def health(self, site: str) -> dict[str, str]:
        """How the datacenter of `site` stands."""
        told: dict[str, str] = (await self._client.get(f"{self._urls[site]}/health")).json()
        return told

    async def read(
        self, datacenter: str, target: str, *, gateway: str, role: str, subject: str
    ) -> httpx.Response:
        """Ask one datacenter in the name of a gateway, on behalf of somebody."""
        signed = assertion.sign(
            key=self._keys[gateway],
            site=gateway,
            audience=assertion.datacenter_audience(datacenter),
            subject=subject,
            role=role,
            method="GET",
            target=target,
            body=b"",
            epoch=self.epoch,
            now=time.time(),
        )
        return await self._client.get(
            self._urls[datacenter] + target,
            headers={assertion.HEADER_NAME: signed, "massar-epoch": str(self.epoch)},
        )


@pytest.fixture(scope="module")
async def datacenters(country: RunningCountry) -> AsyncIterator[Datacenters]:
    """Both datacenters, the standby caught up with all that was written before."""
    async with httpx.AsyncClient(trust_env=False) as client:
        found = Datacenters(country, client)
        primary = await found.health("rabat")
        found.epoch = int(primary["epoch"])

        async def caught_up() -> bool:
            standby = await found.health("marrakech")
            return position.parse(standby["position"]) >= position.parse(primary["position"])

        await eventually(caught_up, within_s=10, what="the standby has replayed what the primary wrote")
        yield found


def source_of(name: str, circle: Circle, chosen: Mapping[str, str]) -> Source:
    """The declared source of one read about the circle."""
    return SOURCES[name](
        {
            "pupil_id": circle.pupil,
            "class_id": circle.class_id,
            "subject": circle.subjects[0],
            "subject_id": circle.teachers[0] if name == "assignments" else circle.guardians[0],
            "year": "2026",
            **chosen,
        }
    )


@pytest.mark.parametrize("name", SOURCES)
@given(which=WHICH, week=WEEK, session=SESSION, since=FROM, role=st.sampled_from(["student", "teacher"]))
@settings(max_examples=DIRECT_EXAMPLES_MAX)
async def test_a_datacenter_answers_a_view_the_same_on_whoevers_behalf(
    name: str,
    which: int,
    week: str,
    session: str,
    since: str,
    role: str,
    circles: list[Circle],
    datacenters: Datacenters,
) -> None:
    circle = circles[which % len(circles)]
    chosen = {"week": week, "session": session, "from": since, "role": role}
    target = source_of(name, circle, chosen).target
    askers = [("gateway", assertion.NOBODY), *((str(role), who) for role, who in circle.everybody())]
    answers = {}
    for (asker, who), gateway, datacenter in zip(
        askers, itertools.cycle(SITES), itertools.cycle(DATACENTERS), strict=False
    ):
        answer = await datacenters.read(datacenter, target, gateway=gateway, role=asker, subject=who)
        assert answer.status_code == 200, answer.text
        answers[answer.content, answer.headers["etag"]] = (asker, gateway, datacenter)
    assert len(answers) == 1, answers


# Through the gateways, every time uncached


class Uncached:
    """Reads through a gateway that came from a datacenter, because everything about the entry was purged before."""

    def __init__(self, country: RunningCountry, asked: tuple[Line, ...], client: httpx.AsyncClient) -> None:
        self._listener = country.addresses.metrics["rabat"] + notices.PATH
        self._key = read_private_key(country.directory / "keys" / "datacenter-rabat.pem")
        self._client = client
        self.lines = asked

    async def read(self, line: Line, path: str, token: str, *, tags: tuple[str, ...]) -> tuple[bytes, str]:
        """Body and ETag of an answer that the datacenter was asked for."""
        signed = notices.sign_notice(key=self._key, site="rabat", tags=tags, now=time.time())
        answer = await self._client.post(
            self._listener, content=signed.body, headers={notices.SIGNATURE_HEADER: signed.signature}
        )
        assert answer.status_code == 204

        async def missed() -> httpx.Response | None:
            told = await line.get(path, token)
            assert told.status_code == 200, told.text
            return told if "fwd=" in told.headers["cache-status"] else None

        told = await eventually(missed, within_s=PURGED_WITHIN_S, what=f"{line} misses {tags}")
        assert isinstance(told, httpx.Response)
        return told.content, told.headers["etag"]


@pytest.fixture(scope="module")
async def uncached(country: RunningCountry) -> AsyncIterator[Uncached]:
    """Reads at every worker of both sites."""
    async with lines(country.addresses.gateways) as found, httpx.AsyncClient(trust_env=False) as client:
        yield Uncached(country, found, client)


def _timetable(circle: Circle) -> tuple[str, list[tuple[Role, str, str]]]:
    family = [(Role.STUDENT, circle.pupil), *((Role.PARENT, each) for each in circle.guardians)]
    teachers = [(Role.TEACHER, each) for each in circle.teachers]
    mine = f"/v1/pupils/{circle.pupil}/timetable"
    classmates = (Role.STUDENT, circle.classmate, f"/v1/pupils/{circle.classmate}/timetable")
    return f"timetable:{circle.class_id}", [*((*each, mine) for each in family + teachers), classmates]


def _family(noun: str, tag: str, circle: Circle) -> tuple[str, list[tuple[Role, str, str]]]:
    path = f"/v1/pupils/{circle.pupil}/{noun}"
    family = [(Role.STUDENT, circle.pupil, path), *((Role.PARENT, each, path) for each in circle.guardians)]
    return tag, family


def _teachers(path: str, tag: str, circle: Circle) -> tuple[str, list[tuple[Role, str, str]]]:
    return tag, [(Role.TEACHER, each, path) for each in circle.teachers]


def sharers(kind: str, circle: Circle) -> tuple[str, list[tuple[Role, str, str]]]:
    """The tag of an entry, and all who share it: role, subject and the path each asks."""
    match kind:
        case "timetable":
            return _timetable(circle)
        case "grades":
            return _family("grades", f"grades:{circle.class_id}", circle)
        case "absences (family)":
            return _family("absences", f"absences:{circle.pupil}", circle)
        case "absences (teacher)":
            path = f"/v1/pupils/{circle.pupil}/absences"
            return _teachers(path, f"absences:{circle.pupil}", circle)
        case _:
            return _teachers(f"/v1/classes/{circle.class_id}/pupils", f"roster:{circle.class_id}", circle)


KINDS = ("timetable", "grades", "absences (family)", "absences (teacher)", "roster")


@given(
    kind=st.sampled_from(KINDS),
    which=WHICH,
    week=WEEK,
    session=SESSION,
    since=FROM,
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=EXAMPLES_MAX)
async def test_principals_who_share_a_key_get_the_same_uncached_bytes(
    kind: str,
    which: int,
    week: str,
    session: str,
    since: str,
    order: Random,
    circles: list[Circle],
    uncached: Uncached,
    mint: Mint,
) -> None:
    tag, asking = sharers(kind, circles[which % len(circles)])
    order.shuffle(asking)
    answers = {}
    for role, who, path in asking:
        line = order.choice(uncached.lines)
        full = f"{path}?week={week}&session={session}&from={since}"  # each route takes what it knows
        answer = await uncached.read(line, full, mint.token(role, who), tags=(tag,))
        answers[answer] = (role, line)
    assert len(answers) == 1, answers
