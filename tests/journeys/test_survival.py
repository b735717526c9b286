"""Both datacenters gone and the gateways left alone: what is known is shown, what is not is said, nobody is let in on a guess."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.journeys.breaking import Broken, breakable, days_of_the_year, declared, kill
from tests.journeys.lines import Line, lines
from tests.waiting import eventually

SITES = ("rabat", "marrakech")


@pytest.fixture(scope="module")
async def broken(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broken]:
    async with breakable(tmp_path_factory.mktemp("survival")) as started:
        yield started


class Paths:
    """What is read before the loss, and what is not."""

    def __init__(self, broken: Broken) -> None:
        pupil = broken.people.student.pupil_id
        self.timetable = f"/v1/pupils/{pupil}/timetable"
        self.grades = f"/v1/pupils/{pupil}/grades"
        self.absences = f"/v1/pupils/{pupil}/absences"
        days = days_of_the_year()
        self.unread = [f"{self.absences}?from={next(days)}" for _ in range(8)]

    @property
    def known(self) -> tuple[str, ...]:
        return (self.timetable, self.grades, self.absences)


async def test_reads_outlive_both_datacenters(broken: Broken) -> None:
    paths = Paths(broken)
    student, classmate, teacher = (broken.token(who) for who in ("student", "classmate", "teacher"))
    async with lines(broken.gateways) as everywhere:
        known: dict[str, bytes] = {}
        for line in everywhere:
            for path in paths.known:
                answer = await line.get(path, student)
                assert answer.status_code == 200
                assert known.setdefault(path, answer.content) == answer.content
            assert (await line.get(broken.book, teacher)).status_code == 200
        kill(broken.country.table(), *(f"{site}-datacenter" for site in SITES))
        for line in everywhere:
            await _shows_what_is_known(line, student, known)
            await _says_what_is_not(line, student, paths.unread.pop())
            await _says_how_it_stands(line, student, paths.timetable)
            await _composes_what_there_is(line, student)
            await _lets_nobody_in_on_a_guess(line, classmate, broken.people.classmate.pupil_id)
            await _takes_no_write(line, teacher, broken)
        await eventually(lambda: _both_are_seen_away(broken), within_s=10, what="the directors see it")
        for line in everywhere:
            await _shows_what_is_known(line, student, known)
            assert (await line.get("/readyz")).status_code == 200, "a balancer must not take survival away"
    record = await declared(broken.country.addresses.etcd)
    assert (record.epoch, record.active) == (1, "rabat"), "with both bad nothing moves"


async def _shows_what_is_known(line: Line, token: str, known: dict[str, bytes]) -> None:
    for path, body in known.items():
        answer = await line.get(path, token)
        assert (answer.status_code, answer.content) == (200, body)
        _labelled_if_stale(answer)
        again = await line.get(path, token, if_none_match=answer.headers["etag"])
        assert again.status_code == 304


def _labelled_if_stale(answer: httpx.Response) -> None:
    """Within its freshness an answer is simply fresh; beyond it, it says so and how old it is."""
    stale = "stale" in answer.headers["cache-status"] or "survival" in answer.headers["cache-status"]
    assert stale == ("massar-data-age" in answer.headers)
    if not stale:
        assert int(answer.headers["age"]) < 60


async def _says_what_is_not(line: Line, token: str, path: str) -> None:
    answer = await line.get(path, token)
    assert (answer.status_code, answer.json()["slug"]) == (503, "datacenters-unavailable")
    _comes_back_later(answer)


async def _says_how_it_stands(line: Line, token: str, known: str) -> None:
    """Who has just met nobody says so, with what it still shows as well."""
    status = await line.get("/v1/status")
    assert (status.json()["mode"], status.json()["datacenter"]["fr"]) == ("survival", "Rabat")
    assert (await line.get(known, token)).headers["massar-mode"] == "survival"


async def _composes_what_there_is(line: Line, token: str) -> None:
    answer = await line.get("/v1/home", token)
    assert answer.status_code == 200
    parts: dict[str, dict[str, Any]] = answer.json()["parts"]
    for name in ("timetable", "grades"):
        assert parts[name]["status"] == 200
    assert {part["problem"]["slug"] for part in parts.values() if part["status"] != 200} <= {
        "datacenters-unavailable"
    }


async def _lets_nobody_in_on_a_guess(line: Line, token: str, pupil: str) -> None:
    """Nobody here has asked for the classmate before: what the timetable is, is known; who he is, is not."""
    for path in (f"/v1/pupils/{pupil}/timetable", "/v1/home"):
        answer = await line.get(path, token)
        assert (answer.status_code, answer.json()["slug"]) == (503, "relations-unavailable")
        _comes_back_later(answer)


async def _takes_no_write(line: Line, token: str, broken: Broken) -> None:
    path = f"/v1/classes/{broken.people.teacher.class_id}/homework"
    payload = {"subject": broken.people.teacher.subject, "text": "Lire", "due_on": "2026-11-25"}
    answer = await line.post(path, payload, token=token, key="survival")
    assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")
    _comes_back_later(answer)


def _comes_back_later(answer: httpx.Response) -> None:
    assert 1 <= int(answer.headers["retry-after"]) <= 5


async def _both_are_seen_away(broken: Broken) -> bool:
    code, told = await broken.country.massar("dc", "explain")
    return code == 0 and "both-bad" in told
