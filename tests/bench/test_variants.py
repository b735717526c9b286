"""What the edge is compared with."""

from __future__ import annotations

from typing import Any

import pytest

from bench import variants


async def test_the_floor_gives_two_ready_messages_of_the_wanted_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variants.FLOOR_BODY_VARIABLE, "1449")
    answer, sent = variants.floor(), []

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in range(2):
        await answer({"type": "http"}, None, send)
    start, body = sent[:2]
    assert start["status"] == 200
    assert (b"content-length", b"1449") in start["headers"]
    assert body["body"] == variants.floor_body(1449)
    assert sent[2:] == [start, body]


async def test_the_floor_leaves_the_lifespan_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variants.FLOOR_BODY_VARIABLE, "1")

    async def send(_message: Any) -> None:
        raise AssertionError

    await variants.floor()({"type": "lifespan"}, None, send)
