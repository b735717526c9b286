"""etcd's majority hung, back, and gone; a human's hold between: nothing is decided without the one, nor against the other.

One story in this order, each part leaving the country as the next one finds it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest

from datacenters.directory import ETCD_SILENT_MAX_S
from datacenters.record import Phase
from sandbox.phone import Phone
from tests.journeys.breaking import (
    PACE_S,
    Broken,
    Marks,
    audited,
    breakable,
    days_of_the_year,
    declared,
    kill,
    said,
    stopped,
)
from tests.journeys.lines import Line, lines
from tests.waiting import eventually

DEGRADED_WITHIN_S = 4.0
NORMAL_AGAIN_WITHIN_S = 5.0
REFUSED_WITHIN_S = 15.0
HELD_AT_LEAST_S = 8.0
MOVED_WITHIN_S = 15.0
SLACK_S = 1.5  # of a machine with two busy cores

_DAYS = days_of_the_year()


@pytest.fixture(scope="module")
async def phones(broken: Broken) -> AsyncIterator[dict[str, Phone]]:
    """One signed-in phone at each site."""
    found = {site: Phone(broken.people.student, broken.only(site)) for site in broken.gateways}
    for phone in found.values():
        assert (await phone.sign_in()).status == 200
    yield found
    for phone in found.values():
        await phone.aclose()


@pytest.fixture(scope="module")
async def broken(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broken]:
    async with breakable(tmp_path_factory.mktemp("etcd-away"), workers=1) as started:
        yield started


async def test_while_the_majority_is_silent_reads_go_on_and_writes_say_so(
    broken: Broken, phones: dict[str, Phone]
) -> None:
    marks = Marks(broken, broken.people.parent.children[0])
    async with lines(broken.gateways, workers=1) as (rabat, marrakech):
        await marks.learn(rabat)
        assert (await marks.enter(rabat)).status_code == 200
        with stopped(broken.country.table(), "rabat-etcd", "witness-etcd") as at:
            degraded_s = {}
            for line in (rabat, marrakech):
                await eventually(partial(_mode_is, line, "degraded"), within_s=DEGRADED_WITHIN_S + SLACK_S)
                degraded_s[line.site] = time.monotonic() - at
            for line in (rabat, marrakech):
                await _reads_go_on(broken, line, active="Rabat", epoch=1)
            # What may be old says so before writes are no longer tried.
            await eventually(lambda: time.monotonic() - at > ETCD_SILENT_MAX_S, within_s=DEGRADED_WITHIN_S)
            for line in (rabat, marrakech):
                await _writes_are_refused(marks, line, phones)
            await _commands_say_so(broken)
        began = time.monotonic()
        for line in (rabat, marrakech):
            await eventually(partial(_mode_is, line, "normal"), within_s=NORMAL_AGAIN_WITHIN_S)
            await eventually(partial(_taken, marks, line), within_s=NORMAL_AGAIN_WITHIN_S)
            refreshed = partial(_refreshed, phones[line.site])
            await eventually(refreshed, within_s=NORMAL_AGAIN_WITHIN_S, what="a refusal costs no session")
    print(
        f"\nmajority hung: degraded after {_seconds(degraded_s)}; "
        f"normal and writing {time.monotonic() - began:.2f} s after it came back"
    )
    assert max(degraded_s.values()) <= DEGRADED_WITHIN_S + SLACK_S
    record = await declared(broken.country.addresses.etcd)
    assert (record.epoch, record.phase, record.active) == (1, Phase.ACTIVE, "rabat")


async def test_a_hold_keeps_the_active_datacenter_until_it_is_released(broken: Broken) -> None:
    code, told = await broken.country.massar("dc", "hold", "--reason", "works on the line", "--json")
    assert (code, msgspec.json.decode(told)["after"]["phase"]) == (0, "HOLD"), told
    marks = Marks(broken, broken.people.parent.children[0])
    async with lines(broken.only("marrakech"), workers=1) as (line,):
        await marks.learn(line)
        # A hold stops moves, not writes; etcd has just come back, so the first may still be asked to wait.
        await eventually(partial(_taken, marks, line), within_s=NORMAL_AGAIN_WITHIN_S)
        code, told = await broken.country.massar("sandbox", "kill", "rabat")
        assert code == 0, told
        at = time.monotonic()
        await eventually(
            partial(_refusals, broken), within_s=REFUSED_WITHIN_S, what="the director refuses to move"
        )
        refused_s = time.monotonic() - at
        await _served_by_the_standby(broken, line, until=at + HELD_AT_LEAST_S)
        written = await marks.enter(line)
        assert (written.status_code, written.json()["slug"]) == (503, "read-only")
        assert 1 <= int(written.headers["retry-after"]) <= 5
        await _explained(broken)
        record = await declared(broken.country.addresses.etcd)
        assert (record.epoch, record.phase, record.active) == (1, Phase.HOLD, "rabat")
        released_at = time.monotonic()
        code, told = await broken.country.massar("dc", "hold", "--release")
        assert code == 0, told
        await eventually(partial(_taken, marks, line), within_s=MOVED_WITHIN_S, what="Marrakech takes writes")
        moved_s = time.monotonic() - released_at
    rows = await audited(broken.country.addresses.etcd)
    steps = [(row.after.epoch, row.after.phase) for row in rows if row.before is not None]
    assert steps == [
        (1, Phase.HOLD),
        (1, Phase.ACTIVE),
        (2, Phase.PROMOTING),
        (2, Phase.REPLAYING),
        (2, Phase.ACTIVE),
    ]
    print(
        f"\nthe hold was named {refused_s:.1f} s after the kill; released, Marrakech wrote after {moved_s:.1f} s"
    )


async def test_with_the_majority_killed_reads_go_on_and_routing_stays(
    broken: Broken, phones: dict[str, Phone]
) -> None:
    """Rabat's member died with its site; without the witness's there is no majority any more."""
    kill(broken.country.table(), "witness-etcd")
    at = time.monotonic()
    marks = Marks(broken, broken.people.parent.children[0])
    async with lines(broken.only("marrakech"), workers=1) as (line,):
        await marks.learn(line)
        await eventually(partial(_mode_is, line, "degraded"), within_s=DEGRADED_WITHIN_S + SLACK_S)
        print(f"\nmajority killed: degraded after {time.monotonic() - at:.2f} s")
        await _reads_go_on(broken, line, active="Marrakech", epoch=2)
        await eventually(lambda: time.monotonic() - at > ETCD_SILENT_MAX_S, within_s=DEGRADED_WITHIN_S)
        await _writes_are_refused(marks, line, phones)
    await _commands_say_so(broken)


async def _mode_is(line: Line, mode: str) -> bool:
    answer = await line.get("/v1/status")
    meant = answer.headers["massar-mode"]
    # What an app has to do then is what it does in read-only; that etcd is silent is for operators. The second in which the mode
    # changes may lie between the body of an answer and its header.
    return bool(meant == mode and answer.json()["mode"] == ("read-only" if meant == "degraded" else meant))


async def _reads_go_on(broken: Broken, line: Line, *, active: str, epoch: int) -> None:
    parent, child = broken.token("parent"), broken.people.parent.children[0]
    for path in (f"/v1/pupils/{child}/grades", f"/v1/pupils/{child}/absences?from={next(_DAYS)}"):
        answer = await line.get(path, parent)
        assert (answer.status_code, answer.headers["massar-mode"]) == (200, "degraded")
        assert "massar-data-age" not in answer.headers, "the active datacenter answered"
    status = (await line.get("/v1/status")).json()
    assert (status["datacenter"]["fr"], status["epoch"]) == (active, epoch)
    assert status["retry_after_s"] is not None
    assert (await line.get("/readyz")).status_code == 200


async def _writes_are_refused(marks: Marks, line: Line, phones: dict[str, Phone]) -> None:
    """At once, by their own name, with a time to come back; signing in and rotating are writes as well."""
    began = time.monotonic()
    written = await marks.enter(line)
    signed_in, refreshed = await phones[line.site].sign_in(), await phones[line.site].refresh()
    took_s = time.monotonic() - began
    answers = [
        (written.status_code, written.json()["slug"], written.headers),
        (signed_in.status, signed_in.slug, signed_in.headers),
        (refreshed.status, refreshed.slug, refreshed.headers),
    ]
    for status, slug, headers in answers:
        assert (status, slug) == (503, "read-only")
        assert 1 <= int(headers["retry-after"]) <= 5
        assert headers["massar-mode"] == "degraded"
    assert took_s <= SLACK_S, "refused without waiting for anybody"


async def _commands_say_so(broken: Broken) -> None:
    """Each tries every member before it gives up, so they try side by side."""
    commands = (("status",), ("explain",), ("hold", "--reason", "not now"))
    told = await asyncio.gather(*(broken.country.massar("dc", *command) for command in commands))
    for code, said_of_one_member in told[:2]:
        assert (code, said_of_one_member.startswith("NO MAJORITY")) == (0, True), said_of_one_member
    code, refused = told[2]
    assert (code, "majority does not answer" in refused) == (1, True), refused
    assert not any("Traceback" in text for _, text in told)


async def _refreshed(phone: Phone) -> bool:
    told = await phone.refresh()
    assert told.status in {200, 503}, told
    return told.status == 200


async def _taken(marks: Marks, line: Line) -> bool:
    answer = await marks.enter(line)
    if answer.status_code == 200:
        return True
    assert answer.status_code == 503
    assert answer.json()["slug"] in {"read-only", "switching"}
    return False


def _refusals(broken: Broken) -> list[dict[str, Any]]:
    found = said(broken.country.directory, "marrakech-director", subject="claim")
    return [event for event in found if "a human holds the record" in event["event"]]


async def _served_by_the_standby(broken: Broken, line: Line, *, until: float) -> None:
    """Reads that no cache holds, at a steady pace until `until`."""
    child = broken.people.parent.children[0]
    while time.monotonic() < until:
        answer = await line.get(f"/v1/pupils/{child}/absences?from={next(_DAYS)}", broken.token("parent"))
        assert (answer.status_code, answer.headers["massar-mode"]) == (200, "read-only")
        assert float(answer.headers["massar-data-age"]) >= 0
        await asyncio.sleep(PACE_S)


async def _explained(broken: Broken) -> None:
    code, told = await broken.country.massar("dc", "explain", "--json")
    assert code == 0, told
    explanation = msgspec.json.decode(told)
    assert (explanation["active"], explanation["target"]) == ("rabat", "marrakech")
    assert explanation["verdict"] == "dead"
    assert explanation["would_move"] is False
    broken_rules = {rule["name"]: rule["sentence"] for rule in explanation["rules"] if not rule["holds"]}
    assert broken_rules == {"not-held": "a human holds the record"}
    assert "not-held" in explanation["conclusion"]


def _seconds(found: dict[str, float]) -> str:
    return ", ".join(f"{seconds:.2f} s at {site}" for site, seconds in found.items())
