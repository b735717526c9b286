"""What tests of commands share: running one as its own program would, against an etcd with a record in it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click
import msgspec
from click.testing import CliRunner, Result

from datacenters import control, etcd_keys
from datacenters.etcd import Etcd
from tests.datacenters.worlds import NOW


async def invoke(command: click.Command, *arguments: str, **environment: str) -> Result:
    """Run a command as its own program would: its own event loop, only this environment."""
    clean = {"MASSAR_ETCD_URLS": "", "MASSAR_SITE": "", "MASSAR_SITES": "", **environment}
    return await asyncio.to_thread(CliRunner().invoke, command, list(arguments), env=clean)


async def said(command: click.Command, *arguments: str) -> Any:
    """What a command prints with --json."""
    return json.loads((await invoke(command, *arguments, "--json")).stdout)


async def installed(etcd: Etcd, observations: dict[str, Any] | None = None) -> list[str]:
    """Declare Rabat active and publish these observations; the options that lead there."""
    await control.bootstrap(etcd, active="rabat", now=NOW)
    for site, seen in (observations or {}).items():
        await etcd.put(etcd_keys.observation(site), msgspec.json.encode(seen))
    return ["--etcd", etcd._urls[0]]
