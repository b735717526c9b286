"""`massar`, but sites named by CHAOS_MACHINES run on machines of theirs (machines.py), and those named by CHAOS_VOLUMES
keep their database on a small file system of its own.

Invariant: what the sandbox itself does is unchanged; a mount ends with the namespace that `ip netns exec` made for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from gateway.cli import main
from sandbox import processes
from sandbox.postgres_home import Home

MACHINES, VOLUMES = "CHAOS_MACHINES", "CHAOS_VOLUMES"
# What reads a clock or syncs a file there; etcd is static, and nothing can be loaded into it.
AFFLICTED = ("postgres", "datacenter", "gateway", "director")


def on_machines(machines: Mapping[str, Mapping[str, str]]) -> Any:
    """While this is entered, servers of these sites start with what their machine adds to the environment."""
    spawn = processes.spawn

    def spawned(command: Any, *, name: str, **settings: Any) -> processes.Running:
        site, _, kind = name.partition("-")
        if kind in AFFLICTED and site in machines:
            environment = settings.pop("environment", processes.BARE_ENVIRONMENT)
            settings["environment"] = {**environment, **machines[site]}
        return spawn(command, name=name, **settings)

    return patch.object(processes, "spawn", spawned)


def on_volumes(volumes: Mapping[str, int]) -> Any:
    """While this is entered, the data of these sites' databases go to file systems of so many bytes."""
    data, close = Home.data, Home.close
    mounted: list[Path] = []

    def data_on_volume(home: Home, name: str) -> Path:
        made = data(home, name)
        if name in volumes:
            owner = made.stat()
            options = f"size={volumes[name]},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "massar-chaos", str(made)], check=True)
            mounted.append(made)
        return made

    def closed(home: Home) -> None:
        while mounted:
            subprocess.run(["umount", str(mounted.pop())], check=True)
        close(home)

    return patch.multiple(Home, data=data_on_volume, close=closed)


if __name__ == "__main__":
    with (
        on_machines(msgspec.json.decode(os.environ.get(MACHINES, "{}"))),
        on_volumes(msgspec.json.decode(os.environ.get(VOLUMES, "{}"))),
    ):
        sys.exit(main())
