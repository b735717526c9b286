"""`massar sandbox demo`: the whole story over real HTTP, told step by step, with a site killed in the middle.

Invariant: every figure printed was measured in this run, and `demo: ok` is printed only when every step's
expectation held.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from datacenters import lifeline
from sandbox.load import Load, Noted
from sandbox.phone import Account, Phone, Told

READY_WAIT_S = 60.0
BEFORE_KILL_S = 5.0
AFTER_RESUMED_S = 3.0
WRITES_RESUME_MAX_S = 10.0
ROTATION_MAX_S = 2.0
FRESH_WORK_SHARE_MIN = 0.30
KILLED = "rabat"
OK = "demo: ok"


class Disappointed(Exception):
    """A step did not go as the design promises."""


class Story:
    """Walks the main job and prints it."""

    def __init__(self, directory: Path, ready: Mapping[str, Any]) -> None:
        self._directory = directory
        self._gateways: dict[str, str] = dict(ready["gateways"])
        self._accounts = {name: msgspec.convert(given, Account) for name, given in ready["accounts"].items()}
        self._number = 0
        self._phones: dict[str, Phone] = {}

    def phone(self, who: str) -> Phone:
        """The phone of a sample account, Rabat first."""
        if who not in self._phones:
            self._phones[who] = Phone(self._accounts[who], self._gateways)
        return self._phones[who]

    async def aclose(self) -> None:
        """Close every phone."""
        for phone in self._phones.values():
            await phone.aclose()

    def _tell(self, what: str, told: Told, expected: int, note: str = "") -> None:
        self._number += 1
        cache = told.headers.get("cache-status", "-")
        click.echo(
            f"{self._number:3}  {what:48} {told.status}  {cache:32} {told.ms:7.1f} ms  {note}".rstrip()
        )
        if told.status != expected:
            raise Disappointed(f"step {self._number} answered {told.status} {told.slug}, not {expected}")

    async def walk(self) -> None:
        """Sign in, read through the cache, be refused, write, read the write."""
        click.echo(f"\n{'':3}  {'what was asked':48} {'':3}  {'Cache-Status':32} {'time':>10}")
        for who in ("student", "classmate", "parent", "teacher"):
            self._tell(f"POST /v1/auth/tokens as {who}", await self.phone(who).sign_in(), 200)
        student, classmate = self.phone("student"), self.phone("classmate")
        first = await student.get(f"/v1/pupils/{student.account.pupil_id}/timetable")
        self._tell("GET the pupil's timetable, first of the class", first, 200)
        _expect("miss" in first.headers.get("cache-status", ""), "the first timetable read is a miss")
        second = await classmate.get(f"/v1/pupils/{classmate.account.pupil_id}/timetable")
        self._tell("GET the classmate's timetable, first time", second, 200, "one entry for the class")
        _expect(
            "massar; hit" in second.headers.get("cache-status", ""), "the classmate's first read is a hit"
        )
        again = await student.get(
            f"/v1/pupils/{student.account.pupil_id}/timetable", if_none_match=first.headers["etag"]
        )
        self._tell("GET it again with If-None-Match", again, 304)
        await self._family()
        await self._marks()
        self._tell("GET /v1/home as the parent", await self.phone("parent").get("/v1/home"), 200)

    async def _family(self) -> None:
        parent = self.phone("parent")
        child = parent.account.children[0]
        grades = await parent.get(f"/v1/pupils/{child}/grades")
        self._tell("GET the child's grades as the parent", grades, 200)
        stranger = self._accounts["stranger_student"].pupil_id
        theirs = await parent.get(f"/v1/pupils/{stranger}/grades")
        self._tell("GET a child of another family", theirs, 404)
        nobody = await parent.get("/v1/pupils/aaaaaaaaaaaaaaaa/grades")
        self._tell("GET a child that does not exist", nobody, 404)
        _expect(
            _but_instance(theirs) == _but_instance(nobody), "both refusals are the same but for `instance`"
        )

    async def _marks(self) -> None:
        teacher, parent = self.phone("teacher"), self.phone("parent")
        account, child = teacher.account, parent.account.children[0]
        book = f"/v1/gradebooks/{account.class_id}/{account.subject}/{account.session}"
        before = await teacher.get(book)
        self._tell("GET the gradebook as the teacher", before, 200)
        row = next(row for row in before.body["rows"] if row["pupil_id"] == child)
        held = next(mark for mark in row["marks"] if mark["state"] != "dispensed")
        value = "17.25" if held["mark"] != "17.25" else "16.75"
        entry = {
            "pupil_id": child,
            "number": held["number"],
            "mark": value,
            "state": "marked",
            "version": held["version"],
        }
        written = await teacher.put(f"{book}/entries", {"entries": [entry]}, key="demo-first-mark")
        self._tell("PUT a mark as the teacher", written, 200, written.body["results"][0]["status"])
        _expect(written.body["results"][0]["status"] == "accepted", "the mark is accepted")
        replayed = await teacher.put(f"{book}/entries", {"entries": [entry]}, key="demo-first-mark")
        self._tell("PUT it again under the same key", replayed, 200, "replayed, not done twice")
        _expect(replayed.headers.get("massar-replayed") == "1", "the repeated write is a replay")
        after = await parent.get(f"/v1/pupils/{child}/grades")
        shown = [
            mark["mark"]
            for subject in after.body["subjects"]
            if subject["code"] == account.subject
            for mark in subject["marks"]
            if mark["number"] == held["number"]
        ]
        self._tell("GET the child's grades as the parent", after, 200, f"shows {', '.join(map(str, shown))}")
        _expect(shown == [value], "the parent's next read shows the mark")

    async def lose_a_site(self) -> None:
        """Kill Rabat under load; measure what phones felt."""
        load = Load(student=self.phone("student"), parent=self.phone("parent"), teacher=self.phone("teacher"))
        running = asyncio.create_task(load.run())
        click.echo(
            f"\nsteady load of the three roles for {BEFORE_KILL_S:.0f} s, then the whole site of Rabat is killed"
        )
        await asyncio.sleep(BEFORE_KILL_S)
        _expect(bool(load.acknowledged), "marks are acknowledged before the site is lost")
        killed_at = time.monotonic()
        killing = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "sandbox", "kill", KILLED, "--dir", str(self._directory)
        )
        _expect(await killing.wait() == 0, "the site is killed")
        dead_at = time.monotonic()
        click.echo(f"killed within {dead_at - killed_at:.1f} s; waiting for writes to resume")
        resumed = await load.first(write=True, after=dead_at, within_s=WRITES_RESUME_MAX_S + 5)
        await asyncio.sleep(AFTER_RESUMED_S)
        load.stop()
        await running
        self._judge(load, killed_at, dead_at, resumed)
        await self._look_for_marks(load, killed_at)

    def _judge(self, load: Load, killed_at: float, dead_at: float, resumed: Noted | None) -> None:
        reads = [noted for noted in load.noted if not noted.write]
        fresh = sum(noted.fresh_work for noted in reads) / len(reads)
        after = [noted for noted in reads if noted.began >= dead_at]
        first = next(
            (
                noted
                for noted in reads
                if noted.began >= killed_at and noted.site != KILLED and noted.status in (200, 304)
            ),
            None,
        )
        errors = [noted for noted in after if noted.status not in (200, 304)]
        read_only = sum(noted.mode == "read-only" for noted in after)
        click.echo(
            f"reads: {len(reads)}, of them {fresh:.0%} cold or dependent on a write; {len(after)} after the loss"
        )
        _expect(fresh >= FRESH_WORK_SHARE_MIN, "at least 30 % of reads are cold or dependent on a write")
        if first is None:
            raise Disappointed("no phone read anything after the site was lost")
        click.echo(
            f"gap of reads:  {first.ended - killed_at:5.2f} s from the kill to the first answer from Marrakech"
        )
        click.echo(
            f"errors of reads after rotation: {len(errors)} ({read_only} answered by the standby, marked read-only)"
        )
        _expect(not errors, "no read fails once the phone has rotated")
        if resumed is None:
            raise Disappointed("writes did not resume")
        click.echo(
            f"gap of writes: {resumed.ended - killed_at:5.2f} s from the kill to the first acknowledged mark"
        )
        _expect(resumed.ended - killed_at <= WRITES_RESUME_MAX_S, "writes resume within 10 s")

    async def _look_for_marks(self, load: Load, killed_at: float) -> None:
        account = self._accounts["teacher"]
        told = await self.phone("teacher").get(
            f"/v1/gradebooks/{account.class_id}/{account.subject}/{account.session}"
        )
        held = {
            (row["pupil_id"], mark["number"]): mark["version"]
            for row in told.body["rows"]
            for mark in row["marks"]
        }
        before = [one for one in load.acknowledged if one.at < killed_at]
        missing = [one for one in before if held.get((one.pupil_id, one.number), -1) < one.version]
        click.echo(f"marks acknowledged before the kill: {len(before)}; missing at Marrakech: {len(missing)}")
        _expect(not missing, "no acknowledged mark is missing")


def _expect(held: bool, promise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not held:
        raise Disappointed(f"not so: {promise}")


def _but_instance(told: Told) -> tuple[int, dict[str, Any]]:
    return told.status, {name: value for name, value in told.body.items() if name != "instance"}


def run_demo(directory: Path, *, pupils: int, stay: bool) -> int:
    """Start a sandbox in `directory`, walk the story, end it; 0 when all went as promised."""
    started = time.monotonic()
    ready_file = directory / "ready.json"
    directory.mkdir(parents=True, exist_ok=True)
    ready_file.unlink(missing_ok=True)
    country = subprocess.Popen(
        [sys.executable, "-m", "gateway", "sandbox", "--dir", str(directory), "--pupils", str(pupils),
         "--ready-file", str(ready_file)],
        preexec_fn=lifeline.tied_child(),  # noqa: PLW1509 - started from the main thread, before any other exists
    )  # fmt: skip
    try:
        ready = _wait_ready(country, ready_file)
        asyncio.run(_tell_story(directory, ready))
        click.echo(f"\nthe whole demo took {time.monotonic() - started:.0f} s")
        if stay:
            _stay(ready)
    except Disappointed as reason:
        click.echo(f"\ndemo: failed: {reason}", err=True)
        return 1
    finally:
        country.terminate()
        country.wait()
    if not stay:
        click.echo(OK)
    return 0


async def _tell_story(directory: Path, ready: Mapping[str, Any]) -> None:
    story = Story(directory, ready)
    try:
        await story.walk()
        await story.lose_a_site()
    finally:
        await story.aclose()


def _wait_ready(country: subprocess.Popen[bytes], ready_file: Path) -> Mapping[str, Any]:
    deadline = time.monotonic() + READY_WAIT_S
    while time.monotonic() < deadline:
        if country.poll() is not None:
            raise Disappointed(f"the sandbox ended with {country.returncode}")
        if ready_file.exists():
            ready: Mapping[str, Any] = msgspec.json.decode(ready_file.read_bytes())
            return ready
        time.sleep(0.1)
    raise Disappointed(f"the sandbox was not ready within {READY_WAIT_S:.0f} s")


def _stay(ready: Mapping[str, Any]) -> None:
    click.echo("\nMarrakech stays up until Ctrl-C. Addresses and sample credentials (synthetic):")
    click.echo(
        f"  gateway {ready['gateways']['marrakech']}   metrics {ready['metrics']['marrakech']}/metrics"
    )
    for who, given in ready["accounts"].items():
        click.echo(f"  {who:18} {given['app']:12} {given['login']:40} {given['password']}")
    click.echo(OK)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def stays(environment: Mapping[str, str]) -> bool:
    """Whether somebody is looking: a terminal, and no CI."""
    return sys.stdout.isatty() and not environment.get("CI")
