"""The requests of a block as the load's script reads them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bench.client import Unexpected
from bench.peers import peak
from sandbox import proc

REPORT = "  37671 requests in 2.01s, 69.32MB read\n"


def test_requests_are_kept_whole_and_in_their_order(tmp_path: Path) -> None:
    wanted = [b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"]
    kept = peak.write(tmp_path / "requests", wanted)
    assert kept.read_bytes().split(b"\0") == [*wanted, b""]


def program(place: Path, text: str) -> str:
    """A program that says what `wrk` would, and what it was told."""
    place.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {place}.told\n{text}\n')
    place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return str(place)


async def test_the_load_is_told_the_script_the_file_and_how_hard(tmp_path: Path) -> None:
    wrk = program(tmp_path / "wrk", f"echo '{REPORT}'")
    done = await peak.peak(wrk, 80, tmp_path / "requests", connections=32, seconds=2)
    assert (done.requests, done.seconds) == (37671, 2.01)
    told = (tmp_path / "wrk.told").read_text().split()
    assert told == [
        *("-t", "1", "-c", "32", "-d", "2s", "-s", str(Path(peak.__file__).with_name("requests.lua"))),
        *("http://127.0.0.1:80/", "--", str(tmp_path / "requests")),
    ]


async def test_a_refusal_in_the_report_ends_the_measurement(tmp_path: Path) -> None:
    wrk = program(tmp_path / "wrk", f"echo '{REPORT}  Non-2xx or 3xx responses: 3'")
    with pytest.raises(Unexpected, match="Non-2xx"):
        await peak.peak(wrk, 80, tmp_path / "requests", connections=1, seconds=1)


async def test_a_load_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "OVERTIME_S", 0.5)
    wrk = program(tmp_path / "wrk", f"echo $$ > {tmp_path}/pid\nexec tail -f /dev/null")
    with pytest.raises(TimeoutError):
        await peak.peak(wrk, 80, tmp_path / "requests", connections=1, seconds=0)
    assert proc.look(int((tmp_path / "pid").read_text())) is None
