"""The country that was built is the one that was meant."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx

from datacenters import etcd_keys, record
from datacenters.etcd import Etcd
from tests.countries import PUPILS, RunningCountry


async def _health(country: RunningCountry, site: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{country.addresses.datacenters[site]}/health?nonce=n")
    found: dict[str, Any] = answer.json()
    return found


async def test_rabat_takes_writes_and_marrakech_follows(country: RunningCountry) -> None:
    rabat, marrakech = await _health(country, "rabat"), await _health(country, "marrakech")
    assert (rabat["role"], rabat["writable"], rabat["epoch"]) == ("primary", True, 1)
    assert (marrakech["role"], marrakech["writable"]) == ("standby", False)
    assert marrakech["receipt_age_s"] < 5


async def test_the_record_says_what_was_declared(country: RunningCountry) -> None:
    client = Etcd(country.addresses.etcd)
    control, epoch = await client.read(etcd_keys.CONTROL), await client.read(etcd_keys.EPOCH)
    await client.aclose()
    assert control is not None
    assert epoch is not None
    declared = record.decode(control.value)
    assert (declared.active, declared.epoch, declared.phase) == ("rabat", 1, record.Phase.ACTIVE)
    assert declared.policy == record.Policy(), "a shorter dwell is asked for"
    assert epoch.value == b"1"


async def test_the_country_has_the_pupils_that_were_wished_for(country: RunningCountry) -> None:
    for site in ("rabat", "marrakech"):
        connection = await asyncpg.connect(country.table().databases[site]["records"], ssl=False)
        assert await connection.fetchval("SELECT count(*) FROM pupils") == PUPILS
        await connection.close()


async def test_every_gateway_is_ready(country: RunningCountry) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in country.addresses.gateways.values():
            assert (await client.get(f"{url}/livez")).status_code == 200
            assert (await client.get(f"{url}/readyz")).status_code == 200
        for url in country.addresses.metrics.values():
            assert (await client.get(f"{url}/metrics")).status_code == 200


async def test_each_site_owns_what_the_design_gives_it(country: RunningCountry) -> None:
    owned: dict[str, set[str]] = {}
    for row in country.table().processes:
        owned.setdefault(row.site, set()).add(row.kind)
    whole = {"etcd", "postgres", "valkey", "datacenter", "gateway", "director"}
    assert owned == {"rabat": whole, "marrakech": whole, "witness": {"etcd", "director"}}
