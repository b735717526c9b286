"""Namespaces joined by wires: what is cut is cut, what is mended is whole, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.network import PHONES, PLACES, Network, NoNetwork, refuse_unless_possible
from sandbox.seats import NAMESPACES
from tests.waiting import eventually

PORT = 9000
ANSWERS_WITHIN_S = 5.0
POSSIBLE = os.geteuid() == 0 and shutil.which("ip") is not None


@contextmanager
def door(network: Network, place: str, port: int = PORT) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who accepts connections at a place."""
    code = f"import socket\ns = socket.create_server(('{network.address[place]}', {port}))\nwhile True: s.accept()[0].close()"
    command = ["ip", "netns", "exec", network.namespace(place), "python3", "-c", code]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("possible", [POSSIBLE])
async def test_where_it_is_possible_wires_are_cut_and_mended_and_elsewhere_it_says_why(
    possible: bool,
) -> None:
    if not possible:
        with pytest.raises(NoNetwork, match=r"only root|no `ip`|need Linux"):
            refuse_unless_possible()
        return
    network = Network()
    try:
        network.make()
        with pytest.raises(NoNetwork, match="another run"):
            Network().make()
        with door(network, "rabat"):
            await eventually(lambda: network.reaches(PHONES, "rabat", PORT), within_s=ANSWERS_WITHIN_S)
            _cut_and_mended(network)
            _one_way(network)
            if network.filters:
                _filtered(network)
    finally:
        network.remove()
    assert not [place for place in PLACES if (NAMESPACES / network.namespace(place)).exists()]


def comes_through(network: Network, here: str, there: str, port: int) -> bool:
    """One of a few attempts does: a busy machine may need more than a second for the first."""
    return any(network.reaches(here, there, port) for _ in range(3))


def _cut_and_mended(network: Network) -> None:
    network.cut("rabat", "marrakech")
    assert not network.reaches("marrakech", "rabat", PORT)
    assert comes_through(network, "witness", "rabat", PORT), "one wire alone is cut"
    network.mend("rabat", "marrakech")
    assert comes_through(network, "marrakech", "rabat", PORT)


def _one_way(network: Network) -> None:
    network.deafen("rabat", "marrakech")
    assert not network.reaches("marrakech", "rabat", PORT)
    assert comes_through(network, "witness", "rabat", PORT)
    network.hear_all("rabat")
    assert comes_through(network, "marrakech", "rabat", PORT)


def _filtered(network: Network) -> None:
    network.lose("rabat", PHONES, per_thousand=1000)
    assert not network.reaches(PHONES, "rabat", PORT)
    assert network.lost_packets("rabat") > 0
    network.hear_all("rabat")
    network.divert("rabat", port=PORT, to_port=PORT + 1, mark=7)
    assert not network.reaches(PHONES, "rabat", PORT), "nobody stands at the other port"
    network.undivert("rabat")
    assert comes_through(network, PHONES, "rabat", PORT)
