"""Runs one site's gateway: Granian with its workers, the private listener beside it, and an orderly end.

Invariant: on TERM `/readyz` fails first, the balancer has `drain_s` to look away, requests in flight are finished,
then everything this process started is gone.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import structlog

from datacenters.lifeline import end_with_parent
from gateway import logs
from gateway.condition import DRAINING_FILE
from gateway.settings import Settings, address, read_settings

METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PARTS = ("private", "workers")
BACKLOG = 1024
# Granian counts connections, not requests, and phones keep theirs open.
CONNECTIONS_PER_WORKER_MAX = 8192
# What a worker opens beside them at most: its clients (schools' origins 512, etcd, datacenters, Valkey, accounts) and files.
OWN_FILES_MAX = 2048
OPEN_FILES_MIN = CONNECTIONS_PER_WORKER_MAX + OWN_FILES_MAX
HTTP1_HEADER_BUFFER_BYTES = 65_536
RESPAWN_INTERVAL_S = 5.0

_log = structlog.get_logger()


def run_gateway(environment: Mapping[str, str]) -> int:
    """Serve until TERM or INT; returns the exit code."""
    settings = read_settings(environment)
    logs.configure("gateway", settings.site)
    _tell_of_few_files()
    _empty(settings.metrics_dir)
    child_environment = {
        **environment,
        METRICS_DIR_VARIABLE: str(settings.metrics_dir),
        "MASSAR_DIE_WITH_PARENT": "1",
    }
    children = [
        subprocess.Popen([sys.executable, "-m", "gateway", "gateway-part", part], env=child_environment)  # noqa: S603 - ourselves
        for part in PARTS
    ]
    ending = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    while not ending.wait(0.2):
        if any(child.poll() is not None for child in children):
            _log.error("a part of the gateway ended by itself")
            _stop(children, settings.stop_s)
            return 1
    (settings.metrics_dir / DRAINING_FILE).touch()
    _log.info("draining", seconds=settings.drain_s)
    threading.Event().wait(settings.drain_s)
    _stop(children, settings.stop_s)
    return 0


def _tell_of_few_files() -> None:
    """Say so where a worker may open fewer files than it takes connections.

    Granian raises its processes' soft limit to the hard one as it is loaded; nothing raises that.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES_MIN:
        _log.warning(
            "a worker may open fewer files than it takes connections", may=hard, needs=OPEN_FILES_MIN
        )


def _empty(directory: Path) -> None:
    # The folder itself may be a mount that is not ours to remove.
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.suffix == ".db" or path.name == DRAINING_FILE:
            path.unlink()


def _stop(children: list[subprocess.Popen[bytes]], within_s: int) -> None:
    for child in reversed(children):
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(within_s + 2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _serve_workers(settings: Settings) -> None:
    from granian import Granian  # noqa: PLC0415 - the supervisor does not need it
    from granian.constants import HTTPModes, Interfaces  # noqa: PLC0415
    from granian.http import HTTP1Settings  # noqa: PLC0415

    host, port = address(settings.listen)
    Granian(
        "gateway.asgi:build",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        # Every bound per connection would be multiplied by HTTP/2's streams; a balancer may speak it to phones.
        http=HTTPModes.http1,
        workers=settings.workers,
        backlog=BACKLOG,
        backpressure=CONNECTIONS_PER_WORKER_MAX,
        http1_settings=HTTP1Settings(max_buffer_size=HTTP1_HEADER_BUFFER_BYTES),
        websockets=False,
        log_access=False,
        log_dictconfig=logs.SERVER_LOGS,
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_INTERVAL_S,
        workers_kill_timeout=settings.stop_s,
        process_name=None,
    ).serve()


async def _serve_private(settings: Settings) -> None:
    from granian.constants import HTTPModes, Interfaces  # noqa: PLC0415 - only this part needs it
    from granian.server.embed import Server  # noqa: PLC0415

    from gateway.private import PrivateListener, workers_registry  # noqa: PLC0415

    host, port = address(settings.private_listen)
    listener = PrivateListener(settings, registry=workers_registry(str(settings.metrics_dir)))
    server = Server(
        listener,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        log_access=False,
        log_dictconfig=logs.SERVER_LOGS,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()


def run_part(part: str, environment: Mapping[str, str]) -> None:
    """Serve one part (`workers` or `private`) of the gateway that started this process; ends with it."""
    end_with_parent()
    settings = read_settings(environment)
    if part == "workers":
        _serve_workers(settings)
    else:
        logs.configure("gateway-private", settings.site)
        asyncio.run(_serve_private(settings))
