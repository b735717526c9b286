"""What a site is made of, and how it says that it stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sandbox import folder, postgres, servers, wiring
from sandbox.fleet import Fleet
from sandbox.folder import SITES, WITNESS
from tests.waiting import eventually


@pytest.mark.parametrize("site", SITES)
def test_a_site_with_a_datacenter_runs_everything(site: str) -> None:
    assert set(servers.kinds(site)) == {"etcd", "valkey", "postgres", "datacenter", "gateway", "director"}
    assert servers.kinds(site)[-1] == "director", "whoever acts on its site comes when the site is there"


def test_the_witness_votes_and_observes() -> None:
    assert servers.kinds(WITNESS) == ("etcd", "director")


def test_a_health_is_read() -> None:
    standby = {"role": "standby", "receipt_age_s": 0.1, "writable": False}
    assert servers.is_streaming(standby)
    assert not servers.is_streaming({**standby, "receipt_age_s": None})
    assert not servers.is_primary(standby)
    assert servers.is_primary({"role": "primary"})
    assert servers.is_writable({"role": "primary", "writable": True})
    assert not servers.is_writable({"role": "primary"})


async def test_another_program_may_direct_with_what_the_director_is_told(tmp_path: Path) -> None:
    place = folder.occupy(tmp_path / "country")
    plan = wiring.Wiring(
        folder=place.path,
        port={name: 20_000 + number for number, name in enumerate(wiring.PORT_NAMES)},
        passwords=postgres.new_passwords(),
        workers=1,
        base={"MASSAR_OF_ITS_OWN": "passed on"},
    )
    tells = "import os; print(os.environ['MASSAR_SITE'], os.environ['MASSAR_OF_ITS_OWN'])"
    binaries = servers.Binaries(director_command=(sys.executable, "-c", tells))
    fleet = Fleet(say=lambda _line: None, changed=lambda: None)
    made = servers.Servers(place=place, plan=plan, binaries=binaries, fleet=fleet)
    try:
        await made.director(WITNESS)
        log = made.logs / "witness-director.log"
        await eventually(lambda: log.read_text("utf-8") == "witness passed on\n", within_s=10)
    finally:
        await fleet.kill()
        place.close()
