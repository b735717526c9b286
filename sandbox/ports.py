"""Free ports for the sandbox's servers.

Invariant: chosen ports lie below the range the kernel hands to outgoing connections, so that a busy client
cannot take one between the choice and the server's bind.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_FIRST_PORT = 15_000
_TRIES_MAX = 2_000
_OUTGOING_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortTaken(Exception):
    """A port that was asked for is in use."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether nothing listens on this port of `host`, an address of the machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, avoid: frozenset[int] = frozenset()) -> list[int]:
    """Return `count` different ports nothing listens on."""
    lowest_outgoing = int(_OUTGOING_RANGE.read_text(encoding="ascii").split()[0])
    last = lowest_outgoing - 1 if lowest_outgoing > _FIRST_PORT + _TRIES_MAX else 65_535
    found: list[int] = []
    for _ in range(_TRIES_MAX):
        if len(found) == count:
            return found
        port = random.SystemRandom().randint(_FIRST_PORT, last)
        if port not in avoid and port not in found and is_free(port):
            found.append(port)
    raise PortTaken(f"no {count} free ports between {_FIRST_PORT} and {last}")
