"""Logs: what happened, under which request id, about nobody."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import traceback

import pytest

from gateway import logs
from gateway.logs import AccessLog, JsonFormatter, words
from tests.gateway.people import CLASS, FACTS, PARENT, PUPIL, TEACHER
from tests.gateway.world import SID, World
from tests.waiting import eventually


def one_line(log: AccessLog) -> None:
    said = words(route="/v1/me", method="GET", status=200, outcome="hit", ms=1.256, epoch=3, role="parent")
    log.write(b"abc-1", said)


async def test_a_line_is_json_and_says_what_it_says() -> None:
    sink = io.BytesIO()
    log = AccessLog(lambda: 1_800_000_000.25, sink)
    one_line(log)
    log.flush()
    assert json.loads(sink.getvalue()) == {
        "event": "request",
        "at": 1_800_000_000.25,
        "request_id": "abc-1",
        "route": "/v1/me",
        "method": "GET",
        "status": 200,
        "cache": "hit",
        "ms": 1.26,
        "role": "parent",
        "relation": "-",
        "rule": "-",
        "datacenter": "-",
        "epoch": 3,
        "journal": "-",
        "slug": "-",
    }


async def test_lines_are_written_together_soon_and_at_once_when_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "FLUSH_INTERVAL_S", 0.001)
    sink = io.BytesIO()
    log = AccessLog(lambda: 0.0, sink)
    one_line(log)
    assert sink.getvalue() == b""
    await eventually(sink.getvalue, within_s=5.0)
    monkeypatch.setattr(logs, "FLUSH_INTERVAL_S", 3600)
    monkeypatch.setattr(logs, "BUFFER_BYTES_MAX", 600)
    for _ in range(3):
        one_line(log)
    assert sink.getvalue().count(b"\n") == 4
    log.flush()
    log.flush()
    assert sink.getvalue().count(b"\n") == 4


async def test_no_line_of_a_whole_gateway_names_anybody(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr(shared.app._access_log, "_sink", sink)
    authorization = shared.authorization(PARENT)
    targets = [
        f"/v1/pupils/{PUPIL}/grades?year=2026&session=1",
        f"/v1/pupils/{PUPIL}/homework?from=2026-11-18",
        f"/v1/home?pupil_id={PUPIL}",
        f"/v1/pupils/{PUPIL}/unknown",
        "/v1/pupils/J123456789/grades",
        f"/v1/classes/{CLASS}/pupils?name=Salma",
        "/Salma",
    ]
    for target in targets:
        for method in ("GET", "HEAD", "POST", "SALMA"):
            await shared.ask(
                method,
                target,
                headers={
                    "authorization": authorization,
                    "idempotency-key": "salma-key",
                    "user-agent": "Salma",
                },
                json={"login": "salma@famille.example", "mark": "14.50"} if method == "POST" else None,
            )
    shared.app._access_log.flush()
    written = sink.getvalue()
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == len(targets) * 4
    for secret in (
        *FACTS,
        SID,
        CLASS,
        "Salma",
        "SALMA",
        "salma",
        "14.50",
        "J123456789",
        authorization[7:40],
        TEACHER,
    ):
        assert secret.encode() not in written, secret


def test_an_exception_is_told_by_its_kind_and_place_alone() -> None:
    try:
        raise ValueError("salma@famille.example")
    except ValueError as error:
        told = logs._exception_kind(None, "error", {"event": "x", "exc_info": error})
        same = logs._exception_kind(None, "error", {"event": "x", "exc_info": True})
    assert told["error"] == "ValueError"
    assert told["at"][0].startswith("gateway/test_logs.py:")
    assert "salma" not in str(told)
    assert same == told
    assert logs._exception_kind(None, "info", {"event": "x"}) == {"event": "x"}


def test_what_libraries_log_is_told_without_its_text() -> None:
    try:
        raise ValueError("salma@famille.example")
    except ValueError:
        record = logging.LogRecord(
            "asyncio", logging.ERROR, "x.py", 1, "task of %s", ("salma",), sys.exc_info()
        )
    line = json.loads(JsonFormatter().format(record))
    assert line == {"event": "log", "logger": "asyncio", "level": "error", "error": "ValueError"}


def test_the_servers_own_words_are_told_but_not_what_an_exception_quotes() -> None:
    own = logging.LogRecord("_granian.workers", logging.INFO, "x.py", 1, "Started worker-%d", (1,), None)
    assert json.loads(JsonFormatter().format(own))["event"] == "Started worker-1"
    trace = (
        "Application callable raised an exception\nTraceback (most recent call last):\n"
        '  File "/srv/gateway/edge.py", line 7, in __call__\n    await salma()\n'
        "auth.refusals.Odd: salma@famille.example\nsalma again"
    )
    raised = logging.LogRecord("_granian.asgi.serve", logging.ERROR, "x.py", 1, trace, (), None)
    line = json.loads(JsonFormatter().format(raised))
    assert line["event"] == "Application callable raised an exception"
    assert line["error"] == "auth.refusals.Odd"
    assert line["at"] == ["gateway/edge.py:7"]
    assert "salma" not in str(line)


def test_what_the_server_says_of_an_exception_is_its_kind_and_place_alone() -> None:
    try:
        raise ValueError("salma@famille.example\nlogin: salma")
    except ValueError:
        text = "Application callable raised an exception\n" + traceback.format_exc()
    record = logging.LogRecord("_granian.utils", logging.ERROR, "x.py", 1, text, (), None)
    line = json.loads(JsonFormatter().format(record))
    assert line["event"] == "Application callable raised an exception"
    assert line["error"] == "ValueError"
    assert line["at"][0].startswith("gateway/test_logs.py:")
    assert "salma" not in str(line)


def test_a_configured_process_writes_json_lines_alone() -> None:
    program = """
import asyncio, logging, structlog
from gateway import logs
logs.configure("gateway", "rabat")
structlog.get_logger().info("ready", seconds=1)
try:
    raise KeyError("salma")
except KeyError as error:
    structlog.get_logger().error("broken", exc_info=error)
    structlog.get_logger().exception("broken again")
logging.getLogger("asyncio").error("task of %s", "salma", exc_info=True)
logging.getLogger("httpx").info("GET /v1/pupils/salma")
async def forgotten():
    async def broken():
        raise KeyError("salma")
    asyncio.ensure_future(broken())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(forgotten())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["ready", "broken", "broken again", "log", "log"]
    assert lines[0] == {**lines[0], "component": "gateway", "site": "rabat", "level": "info"}
    assert [line.get("error") for line in lines] == [None, "KeyError", "KeyError", None, "KeyError"]
    assert "salma" not in done.stderr
    assert done.stdout == ""
