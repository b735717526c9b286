"""Where in the network each site of a sandbox sits: an address and, where asked for, a network namespace of its own.

By default every site sits on loopback. With namespaces a partition is a link that is down, as between real sites.

Invariant: a namespace is entered in the child between fork and exec, and before any change of user; the sandbox itself
stays where it is and reaches every site by that site's address. Namespaces and links are made by whoever names them.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import msgspec

from sandbox.ports import LOOPBACK

NAMESPACES = Path("/run/netns")  # where `ip netns add` puts them
_CLONE_NEWNET = 0x40000000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ANY_PORT = 9
_LIBC = ctypes.CDLL(None, use_errno=True)


class SeatRefused(Exception):
    """A site cannot sit there; the message says why."""


class Seat(msgspec.Struct, frozen=True):
    """One site's address, and the network namespace that its processes run in (None: the sandbox's own)."""

    host: str = LOOPBACK
    namespace: str | None = None


ON_LOOPBACK = Seat()


def parse(text: str) -> Seat:
    """The seat in `ADDRESS` or `ADDRESS@NAMESPACE`.

    Raises: ValueError.
    """
    host, at, namespace = text.partition("@")
    try:
        IPv4Address(host)
    except AddressValueError as error:
        raise ValueError(f"not an IPv4 address: {error}") from None
    if at and _NAME.fullmatch(namespace) is None:
        raise ValueError(f"{namespace!r} is no name of a network namespace")
    return Seat(host=host, namespace=namespace or None)


def open_namespace(name: str) -> int:
    """A handle of the namespace, for `enter`; the caller closes it.

    Raises: SeatRefused.
    """
    try:
        return os.open(NAMESPACES / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as failure:
        raise SeatRefused(
            f"no network namespace {name!r} (`ip netns add` makes one): {failure.strerror}"
        ) from None


def enter(namespace: int) -> None:
    """Move the calling process, which must be a child about to `exec`, into the namespace of this handle.

    Raises: OSError: only root may.
    """
    if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")


def callers(seats: Iterable[Seat]) -> list[str]:
    """The address ranges, as pg_hba.conf writes them, that a database must expect: every site's and this process's."""
    seats = list(seats)
    found = {f"{seat.host}/32": None for seat in seats}
    found |= {f"{_source_towards(seat.host)}/32": None for seat in seats}
    if any(seat.namespace for seat in seats):
        found["samenet"] = None  # who sits at the other end of a link calls by its address on that link
    return list(found)


def check(seats: Mapping[str, Seat]) -> None:
    """Raise SeatRefused unless every namespace is there and may be entered."""
    for site, seat in seats.items():
        if seat.namespace is None:
            continue
        os.close(open_namespace(seat.namespace))
        if os.geteuid() != 0:
            raise SeatRefused(f"{site}: only root may start processes in a network namespace")


def _source_towards(host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # sends nothing
        try:
            probe.connect((host, _ANY_PORT))
        except OSError as failure:
            raise SeatRefused(f"{host} cannot be reached from here: {failure.strerror}") from None
        source: str = probe.getsockname()[0]
        return source
