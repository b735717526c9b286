"""What a director does beside looking and judging, and only where it has a PostgreSQL of its own."""

from __future__ import annotations

import asyncio
import time

from datacenters import control, etcd_keys, record
from datacenters.acting import Acting
from datacenters.control import Held
from datacenters.etcd import Etcd
from datacenters.record import Phase, Policy, Protection, Record
from datacenters.switchover import ABORT_AFTER_S
from datacenters.word import Word
from tests.datacenters.test_switchover import Watch
from tests.datacenters.worlds import NOW, declared


class Ground:
    """One site's duties over a real etcd; what was said is kept."""

    def __init__(
        self, etcd: Etcd, *, site: str = "rabat", dsn: str | None = "postgresql://x@127.0.0.1:1/n"
    ) -> None:
        self.etcd = etcd
        self.watch = Watch()
        self.word = Word(monotonic=self.watch)
        self.said: list[str] = []
        self.acting = Acting(
            dsn,
            etcd=etcd,
            word=self.word,
            site=site,
            by=f"director:{site}",
            replay=None,
            write=self.write,
            observations=dict,
            say=lambda _subject, _meaning, sentence: self.said.append(sentence),
            clock=lambda: NOW,
            monotonic=self.watch,
        )

    async def write(self, held: Held, after: Record, _asked_at: float) -> bool:
        return await control.change(self.etcd, held, after)

    async def hear(self, **changes: object) -> None:
        """Declare this in etcd, and let the director have heard it."""
        found = declared(**changes)
        await self.etcd.put(etcd_keys.CONTROL, record.encode(found))
        await self.etcd.put(etcd_keys.EPOCH, str(found.epoch).encode())
        self.word.hear(await control.read(self.etcd), asked_at=self.watch())

    async def does(self, name: str) -> None:
        (duty,) = (duty for duty in self.acting.duties() if duty.name == name)
        async with asyncio.timeout(5):
            await duty.work()

    async def declared(self) -> Record:
        held = await control.read(self.etcd)
        assert held is not None
        return held.record


async def test_a_witness_has_nothing_to_do_but_to_give_up_what_drags_on(etcd: Etcd) -> None:
    witness = Ground(etcd, site="witness", dsn=None)
    assert [duty.name for duty in witness.acting.duties()] == ["switchover"]
    site = Ground(etcd)
    assert {duty.name for duty in site.acting.duties()} == {
        "switchover",
        "fence",
        "freeze",
        "take over",
        "prune",
        "protect",
        "retry",
    }


async def test_a_switchover_that_drags_on_is_given_up_in_etcd(etcd: Etcd) -> None:
    await control.bootstrap(etcd, active="rabat", now=time.time())
    ground = Ground(etcd)
    await ground.hear(phase=Phase.SEALING, target="marrakech", planned=True, frozen_position="1-9")
    await ground.does("switchover")
    assert (await ground.declared()).phase is Phase.SEALING
    ground.watch.now += ABORT_AFTER_S + 0.1
    await ground.does("switchover")
    now = await ground.declared()
    assert (now.epoch, now.serving) == (2, "rabat")
    assert "given up" in ground.said[-1]


async def test_a_journal_beyond_its_bound_is_given_up_and_writes_go_on(etcd: Etcd) -> None:
    await control.bootstrap(etcd, active="rabat", now=time.time())
    ground = Ground(etcd)
    await ground.hear(policy=Policy(journal_records_max=2))
    for number in range(3):
        await etcd.put(etcd_keys.journal((1, number), f"{number:032}"), b"sealed")
    for _ in range(4):
        await ground.does("protect")
    now = await ground.declared()
    assert (now.protection, now.serving, now.epoch) == (Protection.NONE, "rabat", 1)
    found = await etcd.read(etcd_keys.PROTECTION)
    assert found is not None
    assert found.value == control.UNPROTECTED


async def test_the_other_site_leaves_protection_alone(etcd: Etcd) -> None:
    ground = Ground(etcd, site="marrakech")
    await ground.hear(policy=Policy(journal_records_max=0))
    await etcd.put(etcd_keys.journal((1, 1), "a" * 32), b"sealed")
    for _ in range(4):
        await ground.does("protect")
    assert (await ground.declared()).protection is Protection.JOURNAL
