"""`python -m cache --origin URL --listen HOST:PORT [--redis URL]`: a caching reverse proxy."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from cache.bounded_valkey import BoundedValkey
from cache.http.age import Manner
from cache.http.fetching import Fetcher
from cache.http.proxy import CachingProxy
from cache.http.reverse_proxy import ReverseProxy, is_origin
from cache.http.shelf import MemoryShelf, Shelf
from cache.http.valkey_shelf import ValkeyShelf
from cache.sealing import Sealer, SealingKeys

MEMORY_BYTES = 256 * 1024 * 1024
BACKLOG = 1024
# Granian counts connections, not requests, and browsers keep theirs open.
CONNECTIONS_MAX = 8192
HEADER_BYTES_MAX = 65_536
STOP_S = 10
RESPAWN_INTERVAL_S = 5.0
# How the words reach the processes that serve.
WORDS_VARIABLE = "CACHE_PROXY_WORDS"


def main(words: Sequence[str]) -> int:
    """Serve until TERM or INT; who is still reading then has `STOP_S` seconds."""
    asked = _parser().parse_args(words)
    os.environ[WORDS_VARIABLE] = json.dumps(list(words))
    host, port = asked.listen
    Granian(
        "cache.__main__:build",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        workers=asked.workers,
        backlog=BACKLOG,
        backpressure=CONNECTIONS_MAX,
        http1_settings=HTTP1Settings(max_buffer_size=HEADER_BYTES_MAX),
        websockets=False,
        log_access=False,
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_INTERVAL_S,
        workers_kill_timeout=STOP_S,
    ).serve()
    return 0


def build() -> ReverseProxy:
    """The proxy of one serving process."""
    asked = _parser().parse_args(json.loads(os.environ[WORDS_VARIABLE]))
    manner = Manner(
        targeted=tuple(name.lower() for name in asked.targeted), keep_set_cookie=asked.store_cookies
    )
    return ReverseProxy(asked.origin, CachingProxy(_shelf(asked, manner), manner=manner, fetcher=Fetcher()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cache", description="A shared HTTP cache (RFC 9111) in front of one origin."
    )
    parser.add_argument(
        "--origin", required=True, type=_origin, help="scheme and authority: http://127.0.0.1:8000"
    )
    parser.add_argument("--listen", default="127.0.0.1:8080", type=_address, help="HOST:PORT to serve on")
    parser.add_argument(
        "--workers", type=int, default=1, help="serving processes; each keeps its own without --redis"
    )
    parser.add_argument(
        "--redis", metavar="URL", help="keep responses in this Redis or Valkey, for all processes"
    )
    parser.add_argument(
        "--seal-keys", metavar="FILE", type=_keys, help="seal what is kept there with these keys"
    )
    parser.add_argument(
        "--memory-bytes", type=int, default=MEMORY_BYTES, help="the most that a process keeps by itself"
    )
    parser.add_argument(
        "--targeted", metavar="FIELD", action="append", default=[], help="RFC 9213 field to obey"
    )
    parser.add_argument(
        "--store-cookies",
        action="store_true",
        help="store responses that set a cookie too, and give it to everybody (RFC 9111 §7.3 allows it)",
    )
    return parser


def _shelf(asked: argparse.Namespace, manner: Manner) -> Shelf:
    if asked.redis is None:
        return MemoryShelf(bytes_max=asked.memory_bytes)
    keys: SealingKeys | None = asked.seal_keys
    return ValkeyShelf(
        BoundedValkey(asked.redis, monotonic=time.monotonic),
        manner=manner,
        clock=time.time,
        sealer=Sealer(keys) if keys else None,
        name_secret=keys.name_secret if keys else b"",
    )


def _origin(text: str) -> str:
    origin = text.rstrip("/")
    if not is_origin(origin):
        raise argparse.ArgumentTypeError(
            "an origin is http:// or https:// with a host, and perhaps a port, alone"
        )
    return origin


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise argparse.ArgumentTypeError("an address is HOST:PORT")
    return host.strip("[]"), int(port)


def _keys(path: str) -> SealingKeys:
    try:
        return SealingKeys.parse(Path(path).read_text("ascii"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"no sealing keys in {path}: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
