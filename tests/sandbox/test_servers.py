"""What a site is made of, and how it says that it stands."""

from __future__ import annotations

import pytest

from sandbox import servers
from sandbox.folder import SITES, WITNESS


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
