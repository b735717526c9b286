"""Open to everyone: how the gateway fares."""

from __future__ import annotations

import typing

import msgspec
import pytest

from datacenters.directory import Mode as DirectoryMode
from routes.status import Mode, PublicKeys, Status
from tests.gateway.world import World


@pytest.mark.parametrize(
    ("target", "caching"),
    [
        ("/v1/status", "no-store"),
        ("/livez", "no-store"),
        ("/readyz", "no-store"),
        ("/.well-known/jwks.json", "public, max-age=300"),
    ],
)
async def test_no_token_is_asked_for_and_a_bad_one_harms_nobody(
    shared: World, target: str, caching: str
) -> None:
    for headers in ({}, {"authorization": "Bearer nonsense"}):
        answer = await shared.ask("GET", target, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == caching
        assert answer.headers["content-type"] == "application/json"


async def test_what_is_told_has_its_declared_shape(shared: World) -> None:
    for target, shape in (("/v1/status", Status), ("/.well-known/jwks.json", PublicKeys)):
        content = (await shared.get(target)).content
        assert msgspec.json.encode(msgspec.json.decode(content, type=shape)) is not None
    assert (await shared.get("/livez")).json() == {"status": "alive"}
    assert (await shared.get("/readyz")).json() == {"status": "ready"}


async def test_private_halves_of_keys_are_nobodys(shared: World) -> None:
    (key,) = (await shared.get("/.well-known/jwks.json")).json()["keys"]
    assert "d" not in key


def test_every_mode_there_is_can_be_told() -> None:
    # With etcd silent the apps are told what they meet then: reads go on, writes wait.
    told = {mode.value for mode in DirectoryMode} - {"degraded"} | {"survival"}
    assert told == set(typing.get_args(Mode))
