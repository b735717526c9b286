"""Every process is told what it must know, and ports are settled before anything starts."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import msgspec
import pytest

from datacenters import sites
from gateway.directing_settings import read_director_settings
from gateway.settings import read_settings
from sandbox import ports, postgres, seats, wiring
from sandbox.datacenter import settings as datacenter_settings
from sandbox.folder import SITES, WITNESS


@pytest.fixture
def plan(tmp_path: Path) -> wiring.Wiring:
    (tmp_path / "keys").mkdir()
    for site in SITES:
        (tmp_path / "keys" / f"datacenter-{site}.pem").touch()
    port = {name: 20_000 + number for number, name in enumerate(wiring.PORT_NAMES)}
    return wiring.Wiring(
        folder=tmp_path,
        port=port,
        passwords=postgres.new_passwords(),
        workers=2,
        base={"MASSAR_RATE_PER_S": "7"},
    )


@pytest.mark.parametrize("site", SITES)
def test_a_gateway_reads_its_settings_from_what_it_is_told(plan: wiring.Wiring, site: str) -> None:
    settings = read_settings(plan.gateway(site, valkey_url="redis://:word@127.0.0.1:1/0"))
    assert settings.site == site
    assert set(settings.sites) == set(SITES)
    assert settings.etcd_urls[0] == plan.url(f"{site}.etcd")
    assert len(settings.etcd_urls) == 3
    assert settings.workers == 2
    assert settings.rate_per_s == 7
    assert settings.show_cache_status
    assert settings.die_with_parent


@pytest.mark.parametrize("site", SITES)
def test_a_datacenter_reads_its_settings_from_what_it_is_told(plan: wiring.Wiring, site: str) -> None:
    settings = datacenter_settings.from_environment(plan.datacenter(site))
    assert settings.site == site
    assert f":{plan.port[f'{site}.postgres']}/" in str.__str__(settings.records_dsn)
    assert settings.notice_urls == tuple(plan.url(f"{name}.metrics") for name in SITES)


@pytest.mark.parametrize("site", [*SITES, WITNESS])
def test_a_director_knows_every_site_and_its_own_database_alone(plan: wiring.Wiring, site: str) -> None:
    told = plan.director(site)
    known = read_director_settings(told).sites
    assert set(known) == {*SITES, WITNESS}
    assert set(sites.with_datacenter(known)) == set(SITES)
    assert bool(told["MASSAR_DIRECTOR_DSN"]) is (site != WITNESS)
    assert told["MASSAR_ETCD_URLS"].split(",")[0] == plan.url(f"{site}.etcd")


@pytest.mark.parametrize("site", SITES)
def test_a_director_brings_its_own_site_back_and_lists_first(plan: wiring.Wiring, site: str) -> None:
    told = plan.director(site)
    assert shlex.split(told["MASSAR_REJOIN_COMMAND"])[-4:] == ["rejoin", site, "--dir", str(plan.folder)]
    assert told["MASSAR_QUARANTINE_DIR"] == str(plan.folder / "quarantine" / site)
    assert "MASSAR_REJOIN_COMMAND" not in plan.director(WITNESS)


def test_ports_that_were_asked_for_are_given_and_the_others_are_free() -> None:
    asked = ports.free_ports(1)[0]
    allotted = wiring.allot({"rabat.gateway": asked})
    assert allotted["rabat.gateway"] == asked
    assert set(allotted) == set(wiring.PORT_NAMES)
    assert len(set(allotted.values())) == len(wiring.PORT_NAMES)


def test_a_port_in_use_is_told_by_name() -> None:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        taken = listener.getsockname()[1]
        with pytest.raises(ports.PortTaken, match=rf"port {taken} \(rabat.gateway\) is in use"):
            wiring.allot({"rabat.gateway": taken})


def test_one_port_for_two_is_told() -> None:
    port = ports.free_ports(1)[0]
    with pytest.raises(ports.PortTaken, match="given twice"):
        wiring.allot({"rabat.gateway": port, "rabat.valkey": port})


def test_sites_of_their_own_address_listen_and_are_called_there(plan: wiring.Wiring) -> None:
    seated = msgspec.structs.replace(plan, seated={"rabat": seats.Seat(host="10.0.0.1", namespace="ns")})
    assert seated.url("rabat.etcd").startswith("http://10.0.0.1:")
    assert seated.gateway("rabat", valkey_url="redis://:word@10.0.0.1:1/0")["MASSAR_LISTEN"].startswith(
        "10.0.0.1:"
    )
    assert "@10.0.0.1:" in seated.dsn("rabat", postgres.RECORDS, "massar_records")
    assert seated.url("marrakech.gateway").startswith(f"http://{ports.LOOPBACK}:")
    assert [member.seat.namespace for member in seated.members()] == ["ns", None, None]


def test_a_port_inside_a_namespace_is_the_servers_to_find_taken() -> None:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        taken = listener.getsockname()[1]
        seated = {"rabat": seats.Seat(host="10.0.0.1", namespace="ns")}
        assert wiring.allot({"rabat.gateway": taken}, seated)["rabat.gateway"] == taken
