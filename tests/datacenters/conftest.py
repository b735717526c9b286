"""An etcd of this folder's own: the record lies under fixed keys, so nobody else may use them meanwhile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datacenters.etcd import Etcd
from datacenters.etcd_keys import ROOT
from sandbox import etcd as members


def etcd_binary() -> Path:
    return members.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))


@pytest.fixture(scope="session")
async def own_etcd(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> AsyncIterator[members.EtcdServer]:
    (server,) = await members.start(
        members.cluster(["datacenters"]),
        folder=tmp_path_factory.mktemp("etcd"),
        logs=logs,
        executable=etcd_binary(),
    )
    yield server
    await server.process.stop()


@pytest.fixture
async def etcd(own_etcd: members.EtcdServer) -> AsyncIterator[Etcd]:
    """A client of an etcd without any key of ours."""
    # A machine that pauses for a moment fails no test that is about something else.
    client = Etcd([own_etcd.url], timeout_s=5.0, connect_timeout_s=5.0)
    for item in (await client.range(ROOT, prefix=True)).items:
        await client.delete(item.key)
    yield client
    await client.aclose()


@pytest.fixture
async def etcd_trio(
    tmp_path_factory: pytest.TempPathFactory, logs: Path
) -> AsyncIterator[tuple[members.EtcdServer, ...]]:
    """Three members of one cluster, to be killed at will."""
    servers = await members.start(
        members.cluster(["one", "two", "three"]),
        folder=tmp_path_factory.mktemp("trio"),
        logs=logs,
        executable=etcd_binary(),
    )
    yield servers
    for server in servers:
        server.process.kill()
