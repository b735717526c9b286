"""What h2load is told to send, and what is counted of what it says."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bench.client import Unexpected
from bench.peers import http2
from bench.peers.http2 import drive
from bench.peers.people import Pupil
from sandbox import proc

PEOPLE = [(Pupil(name, f"/v1/pupils/{name}/timetable"), f"token-of-{name}") for name in "ab"]
# An answer is in the log for every millisecond of a minute around its start, each after half a millisecond.
_FAKE = r"""#!/bin/sh
echo $$ >> {place}/pids
printf '%s\n' "$@" > {place}/told.$$
for word in "$@"; do case $word in --log-file=*) log=${{word#--log-file=}};; esac; done
echo "Application protocol: {protocol}"
{begin}
awk -v now="$(date +%s)" 'BEGIN {{
  for (n = -30000; n < 30000; n++) printf "%.0f\t%d\t500\n", (now * 1000 + n) * 1000, {status} }}' > "$log.new"
mv "$log.new" "$log"
exec tail -f /dev/null
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "LEAD_S", 0.0)
    monkeypatch.setattr(http2, "TAIL_S", 0.0)


def h2load(place: Path, *, protocol: str = "h2", status: str = "200", begin: str = "") -> str:
    """A program that says what h2load would, and what it was told."""
    program = place / "h2load"
    program.write_text(_FAKE.format(place=place, protocol=protocol, status=status, begin=begin))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


async def driven(place: Path, program: str, *, rate: float | None = None) -> http2.Driven:
    used = iter([3.0, 5.0])
    return await drive(
        program, 8443, PEOPLE, place=place / "senders", rate=rate, seconds=0.1, cpu_s=lambda: next(used)
    )


async def test_what_falls_into_the_span_is_counted_and_nothing_else(tmp_path: Path) -> None:
    done = await driven(tmp_path, h2load(tmp_path))
    assert done.requests == pytest.approx(2 * 1000 * done.seconds, abs=4)
    assert done.seconds >= 0.1
    assert (done.p50_ms, done.p99_ms, done.cpu_s) == (0.5, 0.5, 2.0)


async def test_everybody_sends_his_own_token_and_path(tmp_path: Path) -> None:
    await driven(tmp_path, h2load(tmp_path))
    told = [path.read_text().splitlines() for path in tmp_path.glob("told.*")]
    assert len(told) == len(PEOPLE)
    for pupil, token in PEOPLE:
        (words,) = [words for words in told if f"https://massar.example{pupil.path}" in words]
        assert f"authorization: Bearer {token}" in words
        assert "--connect-to=127.0.0.1:8443" in words
        assert words[words.index("-m") + 1] == "1"
        assert not [word for word in words if word.startswith("--rps")]


async def test_a_rate_is_shared_out_and_waits_for_no_answer(tmp_path: Path) -> None:
    await driven(tmp_path, h2load(tmp_path), rate=1_000.0)
    for told in tmp_path.glob("told.*"):
        words = told.read_text().splitlines()
        assert f"--rps={1_000 / len(PEOPLE) / http2.CONNECTIONS_EACH:.4f}" in words
        assert words[words.index("-m") + 1] == str(http2.UNDER_WAY_MAX)


async def test_less_than_was_due_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unexpected, match="that were due"):
        await driven(tmp_path, h2load(tmp_path), rate=10_000.0)


async def test_another_status_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(Unexpected, match="503 for /v1/pupils/a/timetable"):
        await driven(tmp_path, h2load(tmp_path, status="503"))


async def test_what_was_refused_before_the_span_is_warming(tmp_path: Path) -> None:
    done = await driven(tmp_path, h2load(tmp_path, status="n < -20000 ? 503 : 200"))
    assert done.requests > 0


async def test_another_protocol_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(Unexpected, match=r"not HTTP/2: .*http/1\.1"):
        await driven(tmp_path, h2load(tmp_path, protocol="http/1.1"))


async def test_who_ends_before_his_time_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(Unexpected, match=r"h2load ended: (?s:.*)no such host"):
        await driven(tmp_path, h2load(tmp_path, begin="echo no such host; exit 1"))


async def test_nobody_is_left_behind(tmp_path: Path) -> None:
    await driven(tmp_path, h2load(tmp_path))
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == len(PEOPLE)
    assert [proc.look(pid) for pid in pids] == [None] * len(pids)
