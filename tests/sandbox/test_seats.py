"""Sites with an address and a network namespace of their own: everything of a site sits there, and a cut link is a partition."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import processes, seats
from sandbox.folder import SITES, WITNESS, Row
from sandbox.seats import Seat
from tests import countries
from tests.journeys.breaking import declared
from tests.waiting import eventually

EVERYWHERE = (*SITES, WITNESS)
# A range of its own per process id, so that two test runs on one machine stay apart.
NET = f"10.{64 + os.getpid() % 64}"
REMOTE_TAKES_OVER_WITHIN_S = 30.0


class Network:
    """Three namespaces: each linked to both others and to this process's own, its site's address on its `lo`."""

    def __init__(self) -> None:
        self.seats = {
            site: Seat(host=f"{NET}.{number}.1", namespace=f"massar-{os.getpid()}-{site}")
            for number, site in enumerate(EVERYWHERE, 1)
        }

    def make(self) -> None:
        for number, seat in enumerate(self.seats.values(), 1):
            _ip("netns", "add", seat.namespace)
            self.inside(seat, "link", "set", "lo", "up")
            self.inside(seat, "addr", "add", f"{seat.host}/32", "dev", "lo")
            outside = f"mt{os.getpid() % 100_000}-{number}"
            _ip("link", "add", outside, "type", "veth", "peer", "name", "host", "netns", seat.namespace)
            _ip("addr", "add", f"{NET}.{100 + number}.1/30", "dev", outside)
            _ip("link", "set", outside, "up")
            self.inside(seat, "addr", "add", f"{NET}.{100 + number}.2/30", "dev", "host")
            self.inside(seat, "link", "set", "host", "up")
            _ip("route", "add", f"{seat.host}/32", "via", f"{NET}.{100 + number}.2")
        for number, (one, other) in enumerate(
            (("rabat", "marrakech"), ("rabat", WITNESS), ("marrakech", WITNESS)), 1
        ):
            _ip("-n", self.seats[one].namespace, "link", "add", other, "type", "veth",
                "peer", "name", one, "netns", self.seats[other].namespace)  # fmt: skip
            for place, far, last in ((one, other, 1), (other, one, 2)):
                here, there = self.seats[place], self.seats[far]
                self.inside(here, "addr", "add", f"{NET}.{200 + number}.{last}/30", "dev", far)
                self.inside(here, "link", "set", far, "up")
                # From an address of the link, not of the site: a database must let that in too.
                self.inside(
                    here, "route", "add", f"{there.host}/32", "via", f"{NET}.{200 + number}.{3 - last}"
                )

    def cut(self, site: str) -> None:
        """No site hears this one any more; this process still does."""
        for other in EVERYWHERE:
            if other != site:
                self.inside(self.seats[site], "link", "set", other, "down")

    def inside(self, seat: Seat, *arguments: str) -> None:
        _ip("-n", seat.namespace, *arguments)

    def remove(self) -> None:
        for seat in self.seats.values():
            if (seats.NAMESPACES / str(seat.namespace)).exists():
                _ip("netns", "del", seat.namespace)  # its links go with it

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(
            word
            for site, seat in self.seats.items()
            for word in ("--site", f"{site}={seat.host}@{seat.namespace}")
        )


def _ip(*arguments: str | None) -> None:
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(map(str, arguments))}: {done.stderr}"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root may make network namespaces, and by `ip`")
    made = Network()
    try:
        made.make()
        yield made
    finally:
        made.remove()


async def test_each_site_sits_in_its_namespace_and_one_cut_off_loses_its_role(
    network: Network, tmp_path: Path
) -> None:
    async with countries.running_country(tmp_path, arguments=network.options) as country:
        for site in SITES:
            assert country.addresses.gateways[site].startswith(f"http://{network.seats[site].host}:")
        here = str(Path("/proc/self/ns/net").readlink())
        rows = country.table().living()
        assert {row.site for row in rows} == set(EVERYWHERE)
        found = {site: _namespaces(rows, site) for site in EVERYWHERE}
        assert all(len(of_site) == 1 for of_site in found.values()), found
        assert len({here}.union(*found.values())) == 4
        network.cut("rabat")
        others = [url for url in country.addresses.etcd if network.seats["rabat"].host not in url]

        async def moved() -> bool:
            return (await declared(others)).serving == "marrakech"

        await eventually(moved, within_s=REMOTE_TAKES_OVER_WITHIN_S, what="Marrakech takes over")
        rabat = [row for row in country.table().living() if row.site == "rabat"]
        assert len(rabat) == 6, "a partition ends no process"


def _namespaces(rows: list[Row], site: str) -> set[str]:
    return {str(Path(f"/proc/{row.who.pid}/ns/net").readlink()) for row in rows if row.site == site}


async def test_a_server_changes_user_inside_its_namespace(network: Network, tmp_path: Path) -> None:
    seat = network.seats["rabat"]
    running = processes.spawn(
        ["/bin/sh", "-c", "id -u; id -G; readlink /proc/self/ns/net"],
        name="who",
        log=tmp_path / "log",
        account=processes.Account(name="nobody", uid=65534, gid=65534),
        namespace=seat.namespace,
    )
    assert await running.exited() == 0
    user, groups, namespace = (tmp_path / "log").read_text().split()
    assert (user, groups) == ("65534", "65534")
    assert namespace != str(Path("/proc/self/ns/net").readlink())


def test_a_database_lets_in_the_sites_the_sandbox_and_the_ends_of_links(network: Network) -> None:
    allowed = seats.callers(network.seats.values())
    assert {f"{NET}.1.1/32", f"{NET}.101.1/32", "samenet"} <= set(allowed)


def test_on_loopback_a_database_lets_in_loopback_alone() -> None:
    assert seats.callers([seats.ON_LOOPBACK, Seat()]) == ["127.0.0.1/32"]


def test_a_namespace_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(seats.SeatRefused, match=r"no network namespace 'none-such'"):
        seats.check({"rabat": Seat(host="10.0.0.1", namespace="none-such")})
    with pytest.raises(processes.ProcessFailed, match=r"true: no network namespace 'none-such'"):
        processes.spawn(["/bin/true"], name="true", log=tmp_path / "log", namespace="none-such")


@pytest.mark.parametrize(
    ("text", "seat"),
    [("127.0.0.2", Seat(host="127.0.0.2")), ("10.0.0.1@ns-1", Seat(host="10.0.0.1", namespace="ns-1"))],
)
def test_a_seat_is_an_address_and_perhaps_a_namespace(text: str, seat: Seat) -> None:
    assert seats.parse(text) == seat


@pytest.mark.parametrize(
    "text", ["", "rabat", "10.0.0.1@", "10.0.0.1@../etc", "10.0.0.1@-x", "::1", "10.0.0.0/8"]
)
def test_what_is_no_seat_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an IPv4 address|is no name"):
        seats.parse(text)
