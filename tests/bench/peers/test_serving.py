"""Before anything is measured all servers have given the same bytes, and refused what nobody signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from auth import keys
from bench.client import Unexpected
from bench.peers.people import Issuer, Pupil
from bench.peers.serving import OF_WHAT_CHANGED, Peer, agree
from bench.peers.setups import HAPROXY_MIX, HTTPX_SLOW, NGINX, NGINX_MIX
from tests.bench.peers.conftest import BODIES, Serve

PUPILS = [Pupil(name, f"/v1/pupils/{name}/timetable") for name in "ab"]


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    keys.generate(tmp_path)
    return Issuer({"MASSAR_ACCESS_KEYS_DIR": str(tmp_path)})


async def test_other_bytes_are_no_comparison(origin: Serve, issuer: Issuer) -> None:
    async with origin() as port:
        with pytest.raises(Unexpected, match="slow: 200, other bytes"):
            await agree({"slow": Peer(port, [])}, issuer, PUPILS, dict.fromkeys(BODIES, b"else"))


async def test_a_server_that_believes_every_token_is_no_comparison(origin: Serve, issuer: Issuer) -> None:
    async with origin() as port:
        with pytest.raises(Unexpected, match="open: 200 for a signature that nobody made"):
            await agree({"open": Peer(port, [])}, issuer, PUPILS, BODIES)


async def test_each_server_names_its_own_tags(origin: Serve, issuer: Issuer) -> None:
    async with origin() as port:
        etags = await agree({HTTPX_SLOW: Peer(port, [])}, issuer, PUPILS, BODIES)
    assert etags[HTTPX_SLOW].keys() == BODIES.keys()
    assert len(set(etags[HTTPX_SLOW].values())) == 2


async def test_a_cache_that_does_not_say_hit_is_no_comparison(
    origin: Serve, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.setups.CHECKS_NO_TOKEN", frozenset({NGINX}))
    async with origin() as port:
        with pytest.raises(Unexpected, match="nginx: cache-status is b'', not b'HIT'"):
            await agree({NGINX: Peer(port, [])}, issuer, PUPILS, BODIES)


async def test_a_kept_answer_where_it_has_changed_is_no_comparison(
    origin: Serve, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.setups.CHECKS_NO_TOKEN", frozenset({NGINX_MIX, HAPROXY_MIX}))
    async with origin() as port:
        await agree({HAPROXY_MIX: Peer(port, [])}, issuer, PUPILS, BODIES, OF_WHAT_CHANGED)
        with pytest.raises(Unexpected, match="haproxy-mix: age is b'', not None"):
            await agree({HAPROXY_MIX: Peer(port, [])}, issuer, PUPILS, BODIES)
        with pytest.raises(Unexpected, match="nginx-mix: cache-status is b'', not b'BYPASS'"):
            await agree({NGINX_MIX: Peer(port, [])}, issuer, PUPILS, BODIES, OF_WHAT_CHANGED)
