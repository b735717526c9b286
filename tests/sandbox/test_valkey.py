"""The sandbox's Valkey is a bounded cache with a password, and nothing of it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from sandbox import proc, processes, valkey


async def test_it_answers_with_its_password_and_only_with_it(valkey_server: valkey.ValkeyServer) -> None:
    async with Redis.from_url(valkey_server.url) as client:
        assert await client.ping()
    async with Redis(port=valkey_server.port, retry=Retry(NoBackoff(), 0)) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.ping()


async def test_beyond_its_memory_it_forgets_what_would_end_first_and_saves_nothing(
    valkey_server: valkey.ValkeyServer,
) -> None:
    async with Redis.from_url(valkey_server.url, decode_responses=True) as client:
        settings = await client.config_get("maxmemory", "maxmemory-policy", "save", "appendonly", "bind")
    assert settings == {
        "maxmemory": str(valkey.MEMORY_BYTES_MAX),
        "maxmemory-policy": "volatile-ttl",
        "save": "",
        "appendonly": "no",
        "bind": "127.0.0.1",
    }


def test_its_password_is_in_no_argument_list(valkey_server: valkey.ValkeyServer) -> None:
    arguments = " ".join(proc.command(valkey_server.process.who))
    assert "valkey" in arguments
    assert valkey_server.password not in arguments


def test_another_binary_may_be_named_by_file_or_folder(tmp_path: Path) -> None:
    assert valkey.binary("/opt/valkey-server") == Path("/opt/valkey-server")
    assert valkey.binary(str(tmp_path)) == tmp_path / "valkey-server"


async def test_a_port_in_use_is_told(valkey_server: valkey.ValkeyServer, tmp_path: Path) -> None:
    with pytest.raises(processes.ProcessFailed, match=r"(?s)valkey: ended with code 1.*in use"):
        await valkey.start(folder=tmp_path / "valkey", logs=tmp_path, port=valkey_server.port)
