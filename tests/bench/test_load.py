"""Who sends the load, and what is believed of it."""

from __future__ import annotations

import asyncio

import pytest

from bench.client import Load, Unexpected
from bench.load import Asked, generator, load, read_report

REPORT = """Running 2s test @ http://127.0.0.1:21110/v1/pupils/3vrjebgzmvzakxqz/timetable
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   845.11us  220.67us   4.51ms   88.24%
    Req/Sec    18.93k   512.09    19.71k    72.50%
  37671 requests in 2.01s, 69.32MB read
Requests/sec:  18741.79
Transfer/sec:     34.49MB
"""


def test_the_requests_and_the_seconds_of_wrk_are_read() -> None:
    assert read_report(REPORT) == Load(requests=37671, seconds=2.01)


@pytest.mark.parametrize(("written", "seconds"), [("980.50ms", 0.9805), ("1.00m", 60.0)])
def test_wrk_writes_its_seconds_in_more_than_one_unit(written: str, seconds: float) -> None:
    assert read_report(REPORT.replace("2.01s", written)).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "report",
    [
        REPORT + "  Non-2xx or 3xx responses: 1\n",
        REPORT + "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        "unable to connect to 127.0.0.1:1 Connection refused\n",
    ],
    ids=["another status", "errors", "no server"],
)
def test_a_load_that_did_not_go_well_is_no_measurement(report: str) -> None:
    with pytest.raises(Unexpected):
        read_report(report)


def test_without_wrk_the_own_client_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert generator() == "own client"


async def test_the_own_client_sends_the_token_and_asks_for_the_path() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        asked = Asked("/v1/me", token="t0ken", expected=b"{}")
        done = await load("own client", port, asked, connections=2, seconds=1)
    assert done.requests == len(heard)
    assert set(heard) == {asked.request}
    assert asked.request.startswith(b"GET /v1/me HTTP/1.1\r\nhost: ")
    assert b"\r\nauthorization: Bearer t0ken\r\n" in asked.request
