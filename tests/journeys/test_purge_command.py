"""`massar cache purge` against a country at work: every worker of both sites hears it, softly or for good."""

from __future__ import annotations

import time

from tests.countries import RunningCountry
from tests.journeys.lines import Line, heard_everywhere
from tests.journeys.people import Mint, People
from tests.waiting import eventually

OLD_ENOUGH_S = 2


def timetable(people: People) -> str:
    return f"/v1/pupils/{people.student.id}/timetable"


async def warmed(everywhere: tuple[Line, ...], path: str, token: str) -> str:
    """The class whose timetable every worker now holds, fetched a moment ago."""
    names = set[str]()

    async def old_enough() -> bool:
        answers = [await line.get(path, token) for line in everywhere]
        names.update(answer.json()["class_id"] for answer in answers)
        return all(int(answer.headers.get("age", "0")) >= OLD_ENOUGH_S for answer in answers)

    await eventually(old_enough, within_s=10, what="every worker holds the timetable")
    (name,) = names
    return name


async def purged(
    country: RunningCountry, everywhere: tuple[Line, ...], path: str, token: str, *arguments: str
) -> tuple[list[str], dict[str, float]]:
    """The data ages that were said, by whatever worker, until all show what was fetched since the order."""
    ordered_at, ages = time.time(), list[str]()
    code, said = await country.massar("cache", "purge", *arguments)
    assert (code, said.startswith("sent ")) == (0, True), said

    async def fetched_since(line: Line) -> bool:
        answer = await line.get(path, token)
        assert answer.status_code == 200, answer.text
        if (age := answer.headers.get("massar-data-age")) is not None:
            ages.append(age)
            return False
        return int(answer.headers["age"]) <= time.time() - ordered_at

    return ages, await heard_everywhere(everywhere, fetched_since, what="fetched anew")


async def test_a_soft_purge_shows_what_is_there_with_its_age_and_renews_it_everywhere(
    country: RunningCountry, people: People, mint: Mint, everywhere: tuple[Line, ...]
) -> None:
    path, token = timetable(people), mint.token("student", people.student.id)
    tag = f"timetable:{await warmed(everywhere, path, token)}"
    ages, seconds = await purged(country, everywhere, path, token, "--soft", tag)
    print(f"renewed {max(seconds.values()) * 1000:.0f} ms after the command returned; ages said: {ages}")
    assert max(map(int, ages)) >= OLD_ENOUGH_S, "somebody was shown what was there"


async def test_a_hard_purge_shows_what_was_there_to_nobody(
    country: RunningCountry, people: People, mint: Mint, everywhere: tuple[Line, ...]
) -> None:
    path, token = timetable(people), mint.token("student", people.student.id)
    tag = f"timetable:{await warmed(everywhere, path, token)}"
    ages, _ = await purged(country, everywhere, path, token, tag)
    assert ages == []


async def test_a_dry_run_changes_nothing(
    country: RunningCountry, people: People, mint: Mint, rabat: Line
) -> None:
    path, token = timetable(people), mint.token("student", people.student.id)
    tag = f"timetable:{await warmed((rabat,), path, token)}"
    code, said = await country.massar("cache", "purge", "--soft", tag, "--dry-run")
    assert (code, said) == (0, f"would be  soft purge of {tag}\n          nothing was sent\n")
    assert int((await rabat.get(path, token)).headers["age"]) >= OLD_ENOUGH_S
