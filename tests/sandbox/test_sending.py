"""No mark is lost, none is written twice: whatever the answers, wherever they get lost, whenever the phone dies."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.outbox import FileOutbox, MemoryOutbox, Outbox, Waiting
from sandbox.repeat_rule import PUT_OFF_MAX, Then
from sandbox.sending import Sender, Verdict
from tests.sandbox.scripted import CUT, CUT_DONE, HANG_DONE, OK, Reply, World, in_the_world, problem
from tests.waiting import eventually

BOOKS = [f"/v1/gradebooks/c/{subject}/1" for subject in ("MATH", "SVT", "PC")]
ENTRIES = f"{BOOKS[0]}/entries"

# What says nothing of the write, whether it was done or not.
NO_VERDICTS = [
    *(
        problem(status, slug, done=done, retry_after="3")
        for status, slug, done in [
            (503, "switching", False),
            (503, "read-only", False),
            (503, "overloaded", False),
            (504, "outcome-unknown", False),
            (504, "outcome-unknown", True),
            (409, "idempotency-key-in-progress", True),
            (429, "rate-limited", False),
            (408, "request-timeout", False),
            (500, "internal", True),
            (502, "", True),
            (404, "", False),
            (302, "", False),
        ]
    ),
    CUT,
    CUT_DONE,
]


@pytest.fixture
async def at() -> AsyncIterator[World]:
    async with in_the_world() as world:
        yield world


class Sending:
    """A signed-in phone that sends what is in its outbox."""

    def __init__(self, world: World, outbox: Outbox) -> None:
        self.world = world
        self.outbox = outbox
        self.phone = world.phone()
        self.verdicts: list[Verdict] = []
        self.sender = Sender(
            self.phone, outbox, on_verdict=self.verdicts.append, sleep=world.sleep, jitter=lambda: 0.5
        )

    async def settled(self) -> None:
        async with asyncio.timeout(20):
            await self.sender.settled()

    @property
    def ends(self) -> list[Then]:
        return [verdict.then for verdict in self.verdicts]


async def signed_in(world: World, outbox: Outbox | None = None) -> Sending:
    sending = Sending(world, outbox if outbox is not None else MemoryOutbox())
    await sending.phone.sign_in()
    return sending


async def test_a_write_is_sent_and_its_verdict_shown(at: World) -> None:
    one = await signed_in(at)
    key = one.sender.write("PUT", ENTRIES, {"mark": "12.00"})
    await one.settled()
    assert at.country.marks == {ENTRIES: [{"mark": "12.00"}]}
    ((verdict,)) = one.verdicts
    assert (verdict.write.key, verdict.then, verdict.told.body) == (key, Then.DONE, {"done": 1})
    assert one.outbox.waiting() == []


async def test_it_is_in_the_outbox_before_its_first_byte_is_sent(at: World, tmp_path: Path) -> None:
    one = await signed_in(at, FileOutbox(tmp_path / "outbox"))
    kept: list[list[Waiting]] = []
    at.country.on_write = lambda _seen: kept.append(FileOutbox(tmp_path / "outbox").waiting())
    key = one.sender.write("PUT", ENTRIES, {})
    await one.settled()
    assert [[each.key for each in waiting] for waiting in kept] == [[key]]


@pytest.mark.parametrize("reply", NO_VERDICTS, ids=str)
@pytest.mark.parametrize("times", [1, 5])
async def test_what_is_no_verdict_is_asked_again_under_the_same_key(
    at: World, reply: Reply, times: int
) -> None:
    one = await signed_in(at)
    at.country.script.extend([reply] * times)
    key = one.sender.write("PUT", ENTRIES, {"mark": 1})
    await one.settled()
    assert at.country.marks == {ENTRIES: [{"mark": 1}]}
    assert {seen.key for seen in at.country.writes()} == {key}
    assert len({seen.body for seen in at.country.writes()}) == 1
    assert one.ends == [Then.DONE]
    if "retry-after" in reply.headers:
        assert at.waits == [3.75] * times  # 3 s, and a quarter of them for being half of the spread


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        (problem(409, "gradebook-locked"), Then.REFUSED),
        (problem(404, "not-found"), Then.REFUSED),
        (problem(422, "idempotency-key-reused"), Then.REFUSED),
        (problem(409, "idempotency-key-expired"), Then.ASK),
    ],
)
async def test_a_verdict_against_it_ends_it_and_the_next_one_goes(at: World, reply: Reply, end: Then) -> None:
    one = await signed_in(at)
    at.country.script.append(reply)
    for mark in (1, 2):
        one.sender.write("PUT", ENTRIES, {"mark": mark})
    await one.settled()
    assert one.ends == [end, Then.DONE]
    assert at.country.marks == {ENTRIES: [{"mark": 2}]}
    assert len(at.country.writes()) == 2


async def test_of_one_gradebook_one_at_a_time_and_gradebooks_side_by_side(at: World) -> None:
    one = await signed_in(at)
    at.country.script.extend([HANG_DONE] * 2)
    for mark in (1, 2):
        for book in BOOKS[:2]:
            one.sender.write("PUT", f"{book}/entries", {"mark": mark})
    await eventually(lambda: len(at.country.writes()) == 2, within_s=5.0)
    assert {seen.path for seen in at.country.writes()} == {f"{book}/entries" for book in BOOKS[:2]}
    at.country.released.set()
    await one.settled()
    assert at.country.marks == {f"{book}/entries": [{"mark": 1}, {"mark": 2}] for book in BOOKS[:2]}


async def test_a_site_that_puts_off_is_left_after_a_while(at: World) -> None:
    one = await signed_in(at)
    at.country.by_site["rabat"] = problem(503, "read-only", retry_after="1")
    one.sender.write("PUT", ENTRIES, {})
    await one.settled()
    assert [seen.site for seen in at.country.writes()] == ["rabat"] * PUT_OFF_MAX + ["marrakech"]


async def test_with_nobody_there_it_waits_longer_each_time_and_loses_nothing(at: World) -> None:
    one = await signed_in(at)
    await at.rabat.stop()
    await at.marrakech.stop()
    one.sender.write("PUT", ENTRIES, {})
    await eventually(lambda: len(at.waits) >= 4, within_s=20.0)
    assert at.waits[:4] == [0.625, 1.25, 2.5, 5.0]
    await at.marrakech.start()
    await one.settled()
    assert at.country.marks == {ENTRIES: [{}]}


async def test_who_is_signed_out_keeps_his_writes_until_he_signs_in(at: World) -> None:
    one = await signed_in(at)
    at.country.script.append(problem(401, "session-ended"))
    one.sender.write("PUT", ENTRIES, {})
    await eventually(lambda: not one.phone.signed_in.is_set(), within_s=5.0)
    assert len(one.outbox.waiting()) == 1
    await one.phone.sign_in()
    await one.settled()
    assert at.country.marks == {ENTRIES: [{}]}


async def test_a_token_that_ran_out_is_renewed_on_the_way(at: World) -> None:
    one = await signed_in(at)
    at.country.token = "two"
    for book in BOOKS:
        one.sender.write("PUT", f"{book}/entries", {})
    await one.settled()
    assert at.country.refreshes == 1
    assert one.ends == [Then.DONE] * 3


async def test_who_cannot_renew_waits_for_a_sign_in(at: World) -> None:
    one = await signed_in(at)
    at.country.token, at.country.refresh_refused = "two", True
    one.sender.write("PUT", ENTRIES, {})
    await eventually(lambda: at.country.refreshes == 1, within_s=5.0)
    await asyncio.sleep(0)
    assert at.country.marks == {}
    await one.phone.sign_in()
    await one.settled()
    assert (at.country.marks, at.country.refreshes) == ({ENTRIES: [{}]}, 1)


async def test_the_position_of_a_verdict_outlives_the_phone(at: World, tmp_path: Path) -> None:
    one = await signed_in(at, FileOutbox(tmp_path / "outbox"))
    one.sender.write("PUT", ENTRIES, {})
    await one.settled()
    other = await signed_in(at, FileOutbox(tmp_path / "outbox"))
    await other.phone.get(BOOKS[0])
    assert at.country.seen[-1].headers["massar-position"] == "1-1"


async def test_what_was_answered_and_not_noted_is_answered_the_same_again(at: World, tmp_path: Path) -> None:
    """The phone dies between the verdict and its note."""

    class Dies(FileOutbox):
        def end(self, key: str, *, position: str | None = None) -> None:
            raise SystemError(key, position)

    one = await signed_in(at, Dies(tmp_path / "outbox"))
    one.sender.write("PUT", ENTRIES, {"mark": 1})
    with pytest.raises(SystemError):
        await one.settled()
    other = await signed_in(at, FileOutbox(tmp_path / "outbox"))
    other.sender.resume()
    await other.settled()
    assert at.country.marks == {ENTRIES: [{"mark": 1}]}
    assert one.verdicts[0].told.body == other.verdicts[0].told.body


PHONE = """
import asyncio, sys
from pathlib import Path
from sandbox.outbox import FileOutbox
from sandbox.phone import Account, Phone
from sandbox.sending import Sender
async def main(url, path):
    phone = Phone(Account("moudaris", "login", "password"), {"rabat": url})
    await phone.sign_in()
    sender = Sender(phone, FileOutbox(Path(path)))
    for mark in range(6):
        sender.write("PUT", f"/v1/gradebooks/c/S{mark % 2}/1/entries", {"mark": mark})
    await sender.settled()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("answered", [0, 1, 3])
async def test_a_phone_killed_while_it_sends_loses_and_doubles_nothing(
    at: World, tmp_path: Path, answered: int
) -> None:
    at.country.script.extend([*[OK] * answered, HANG_DONE, HANG_DONE])
    path = tmp_path / "outbox"
    url = f"http://127.0.0.1:{at.rabat.port}"
    process = subprocess.Popen([sys.executable, "-c", PHONE, url, str(path)])
    await eventually(lambda: len(at.country.writes()) == answered + 2, within_s=20.0)
    process.kill()
    await asyncio.to_thread(process.wait)
    assert 0 < len(FileOutbox(path).waiting()) <= 6 - answered
    at.country.released.set()
    other = await signed_in(at, FileOutbox(path))
    other.sender.resume()
    await other.settled()
    assert at.country.marks == {
        f"/v1/gradebooks/c/S{book}/1/entries": [{"mark": mark} for mark in range(book, 6, 2)]
        for book in (0, 1)
    }


class Mortal(FileOutbox):
    """The outbox of a phone that may die: what it still has under way arrives or not, but it notes nothing more."""

    dead = False

    def end(self, key: str, *, position: str | None = None) -> None:
        if self.dead:
            raise SystemError
        super().end(key, position=position)


@pytest.mark.parametrize("seed", range(12))
async def test_after_any_weather_every_mark_is_there_once_and_in_its_order(
    at: World, tmp_path: Path, seed: int
) -> None:
    weather = random.Random(seed)
    path = tmp_path / "outbox"
    at.country.script.extend(weather.choice([*NO_VERDICTS, OK, OK]) for _ in range(40))
    expected: dict[str, list[Any]] = {}
    dying: list[asyncio.Task[None]] = []
    box = Mortal(path)
    one = await signed_in(at, box)
    for mark in range(12):
        entries = f"{weather.choice(BOOKS)}/entries"
        expected.setdefault(entries, []).append({"mark": mark})
        one.sender.write("PUT", entries, {"mark": mark})
        for _ in range(weather.randrange(100)):
            await asyncio.sleep(0)
        if weather.random() < 0.3:
            box.dead = True
            dying += one.sender._sending.values()
            box = Mortal(path)
            one = await signed_in(at, box)
            one.sender.resume()
        if weather.random() < 0.2:
            at.country.token = f"token {mark}"
        if weather.random() < 0.2:
            site = weather.choice([at.rabat, at.marrakech])
            await site.stop()
            await site.start()
    await one.settled()
    ends = await asyncio.gather(*dying, return_exceptions=True)
    assert {type(end) for end in ends} <= {SystemError}
    assert at.country.marks == expected
    assert len(Counter(seen.key for seen in at.country.writes())) == 12
    assert one.outbox.waiting() == FileOutbox(path).waiting() == []
