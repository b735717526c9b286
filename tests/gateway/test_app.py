"""The gateway put together: constructors only, every handler declared once, everything closed at the end."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from auth.refusals import KeysUnusable
from gateway.app import create_app
from gateway.edge import Edge
from gateway.router import endpoints
from routes.endpoint import Endpoint
from sandbox.valkey import ValkeyServer
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import FILLED, PARENT, PUPIL, ROLES
from tests.gateway.world import (
    NOWHERE,
    SITES,
    World,
    answered,
    lifespan,
    scope_of,
    settings_for,
)
from tests.waiting import eventually

GRADES = f"/v1/pupils/{PUPIL}/grades"


@pytest.fixture
def settings(tmp_path: Path, keys_folder: Path) -> Any:
    """Settings of a gateway whose neighbours are all away."""
    return settings_for(
        tmp_path,
        keys=keys_folder,
        urls=dict.fromkeys(SITES, NOWHERE),
        valkey_url="redis://127.0.0.1:9/0",
    )


def test_putting_it_together_asks_nobody(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("a constructor reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(asyncio, "create_task", refused)
    assert isinstance(create_app(settings), Edge)


@pytest.mark.parametrize(
    "name", ["access_keys_dir", "assertion_key_file", "journal_key_file", "seal_key_file"]
)
def test_keys_that_cannot_be_used_stop_the_start(settings: Any, tmp_path: Path, name: str) -> None:
    broken = tmp_path / "broken"
    broken.write_text("not a key")
    with pytest.raises((KeysUnusable, ValueError)):
        create_app(msgspec.structs.replace(settings, **{name: broken}))


async def test_what_is_started_is_ended(make_world: MakeWorld, settings: Any) -> None:
    before = asyncio.all_tasks()
    app = create_app(settings)
    async with lifespan(app):
        assert asyncio.all_tasks() - before
    assert not {task for task in asyncio.all_tasks() - before if not task.done()}


async def test_workers_of_a_site_share_what_one_of_them_fetched(
    make_world: MakeWorld, valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await make_world(valkey_url=valkey_server.url) for _ in range(2)]
    assert (await first.get(GRADES, PUPIL)).headers["cache-status"] == "massar; fwd=miss; stored"

    async def shared() -> bool:
        second.app._warm_reads._reads._cache.clear_memory()
        return (await second.get(GRADES, PARENT)).headers["cache-status"] == "massar; hit; detail=valkey"

    await eventually(shared, within_s=10.0)
    assert (await second.get(GRADES, PARENT)).headers["cache-status"] == "massar; hit; detail=memory"
    assert first.rabat.count("/grades") <= 2


async def test_a_valkey_that_is_away_is_missed_by_nobody(make_world: MakeWorld) -> None:
    world = await make_world(valkey_url="redis://127.0.0.1:9/0")
    for expected in ("massar; fwd=miss; stored", "massar; hit; detail=memory"):
        answer = await world.get(GRADES, PUPIL)
        assert (answer.status_code, answer.headers["cache-status"]) == (200, expected)


HEADER_NAMES = [
    b"accept-language",
    b"authorization",
    b"content-length",
    b"content-type",
    b"cookie",
    b"host",
    b"idempotency-key",
    b"if-none-match",
    b"range",
]
HEADER_VALUES = st.one_of(st.binary(max_size=40), st.sampled_from([b"application/json", b"*", b'"x"', b"5"]))


@settings_of_hypothesis(max_examples=300, phases=[Phase.generate])
@given(
    endpoint=st.sampled_from(endpoints()),
    parts=st.fixed_dictionaries(
        {name: st.just(value) | st.text(max_size=8) for name, value in FILLED.items()}
    ),
    method=st.none() | st.sampled_from(["GET", "HEAD", "OPTIONS", "TRACE", "get", ""]),
    query=st.binary(max_size=30),
    headers=st.dictionaries(st.sampled_from(HEADER_NAMES), HEADER_VALUES, max_size=3),
    who=st.sampled_from(sorted(ROLES)),
    body=st.none() | st.binary(max_size=60),
)
async def test_no_request_at_all_is_answered_with_an_error_of_ours(
    session_world: World,
    endpoint: Endpoint,
    parts: dict[str, str],
    method: str | None,
    query: bytes,
    headers: dict[bytes, bytes],
    who: str,
    body: bytes | None,
) -> None:
    given_headers = {
        b"authorization": session_world.authorization(who).encode(),
        b"idempotency-key": b"key",
        b"content-type": b"application/json",
        **headers,
    }
    path = endpoint.path.format(**parts).encode("utf-8", "replace").decode()
    scope = scope_of(method or endpoint.method, path, query=query, headers=given_headers.items())
    content = msgspec.json.encode(endpoint.body_example) if body is None else body
    answer = await answered(
        session_world.app, scope, [{"type": "http.request", "body": content, "more_body": False}]
    )
    # The shared gateway has no accounts database: signing in is read-only there.
    assert answer.status < 500 or (answer.status == 503 and path.startswith("/v1/auth/")), answer
