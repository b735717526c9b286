"""Who prunes the journal, and who never does (a standby that confirms: tests/failover/test_journal.py)."""

from __future__ import annotations

import pytest

from datacenters import etcd_keys
from datacenters.etcd import Etcd
from datacenters.pruning import Pruning
from datacenters.record import Phase, Record
from sandbox.postgres import PostgresServer
from tests.datacenters.worlds import declared

NOWHERE = "postgresql://x@127.0.0.1:1/none"


async def kept(etcd: Etcd) -> int:
    return await etcd.count(etcd_keys.JOURNAL)


@pytest.fixture
async def journal(etcd: Etcd) -> Etcd:
    await etcd.put(etcd_keys.EPOCH, b"1")
    await etcd.put(etcd_keys.journal((1, 10), "a" * 32), b"sealed")
    return etcd


@pytest.mark.parametrize(
    "record",
    [
        None,
        declared(active="marrakech"),
        declared(phase=Phase.PROMOTING, target="marrakech"),
        declared(phase=Phase.REPLAYING, target="marrakech"),
        declared(phase=Phase.READ_ONLY),
    ],
)
async def test_the_active_site_and_a_site_that_takes_over_do_not_even_look(
    journal: Etcd, record: Record | None
) -> None:
    pruning = Pruning(journal, NOWHERE, site="marrakech")
    await pruning.step(record)
    assert await kept(journal) == 1
    pruning.drop()


async def test_a_postgresql_that_streams_from_nobody_confirms_nothing(
    journal: Etcd, postgres_server: PostgresServer
) -> None:
    pruning = Pruning(journal, postgres_server.admin_dsn, site="marrakech")
    await pruning.step(declared())
    assert await kept(journal) == 1
    pruning.drop()


async def test_an_absent_postgresql_is_an_error_and_removes_nothing(journal: Etcd) -> None:
    pruning = Pruning(journal, NOWHERE, site="marrakech")
    with pytest.raises(OSError, match="Connect call failed"):
        await pruning.step(declared())
    assert await kept(journal) == 1
