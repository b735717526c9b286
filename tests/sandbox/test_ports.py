"""Ports are free, different, and out of the kernel's way."""

from __future__ import annotations

import socket
from pathlib import Path

from sandbox import ports


def test_free_ports_are_different_and_below_the_outgoing_range() -> None:
    found = ports.free_ports(40)
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(found)) == 40
    assert all(port < lowest for port in found)


def test_ports_to_avoid_are_avoided() -> None:
    avoided = frozenset(range(15_000, 32_000))
    assert all(port not in avoided for port in ports.free_ports(3, avoid=avoided))


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        assert not ports.is_free(listener.getsockname()[1])


def test_a_port_shared_by_its_listeners_is_not_free_either() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        assert not ports.is_free(listener.getsockname()[1])
