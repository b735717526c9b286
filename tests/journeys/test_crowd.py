"""Many readers of one page that nobody has read yet, over real sockets, at two sites of two workers each."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from sandbox import valkey
from tests.gateway.people import PUPIL
from tests.gateway.world import SITES
from tests.journeys.wayward import Ground, Heard, Standing, Wire, right, standing_gateway
from tests.waiting import eventually

# Ten thousand are for a machine with nothing else to do: what takes longer than a fetch may is given up.
FEW, MANY = 400, 10_000
# Fewer than wait at a worker: only who asks for something of his own takes one of these places.
AT_WORK_MAX = 32
STEP = 50
DAY = "2026-10-05"
PATH = f"/v1/pupils/{PUPIL}/absences?from={DAY}"
BODY = right(f"/v1/pupils/{PUPIL}/absences?view=family&from={DAY}")
# What is known of the pupil, and the calendar.
KNOWN = f"/v1/pupils/{PUPIL}/timetable"
# One request, and a second one beside it where the first takes more than half a second.
SENT_MAX = 2
ASKED_WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """As many open files as this process may have: it is all the phones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def site_of_two(
    ground: Ground, folder: Path, logs: Path, *, site: str
) -> AsyncIterator[list[Standing]]:
    """Two workers in processes of their own with one Valkey; they know the pupil."""
    server = await valkey.start(folder=folder / site, logs=logs, name=f"crowd-{site}")
    try:
        async with AsyncExitStack() as stack:
            started = partial(
                standing_gateway,
                ground,
                logs,
                site=site,
                assertion_key_file=str(ground.keys / f"gateway-{site}.pem"),
                valkey_url=server.url,
                in_flight_max=str(AT_WORK_MAX),
            )
            workers = [await stack.enter_async_context(started()) for _ in range(2)]
            for worker in workers:
                assert (await worker.get(KNOWN, PUPIL)).status == 200
            yield workers
    finally:
        await server.process.stop()


def shut(workers: Sequence[Standing]) -> asyncio.Event:
    """Have their datacenters answer nothing until the gate opens."""
    gate = asyncio.Event()
    for worker in workers:
        for datacenter in (worker.rabat, worker.marrakech):
            datacenter.forget()
            datacenter.gate = gate
    return gate


def sent(workers: Sequence[Standing]) -> int:
    """How often the datacenters were asked for the page."""
    return sum(one.rabat.count(DAY) + one.marrakech.count(DAY) for one in workers)


@asynccontextmanager
async def phones(worker: Standing, count: int) -> AsyncIterator[list[Wire]]:
    """So many connections to one worker."""
    async with AsyncExitStack() as stack:
        made: list[Wire] = []
        while len(made) < count:
            opening = [stack.enter_async_context(worker.wire()) for _ in range(min(STEP, count - len(made)))]
            made += await asyncio.gather(*opening)
        yield made


async def answered(worker: Standing, wires: Sequence[Wire]) -> list[Heard | BaseException]:
    """What each of these phones hears who all ask for the page at once."""
    request = worker.request(PATH, PUPIL)
    for wire in wires:
        wire.writer.write(request)
    return await asyncio.gather(*[wire.heard() for wire in wires], return_exceptions=True)


def told(answers: Sequence[Heard | BaseException]) -> Counter[tuple[object, ...]]:
    """How many heard what."""
    return Counter(
        (one.status, one.body, one.header("cache-status"))
        if isinstance(one, Heard)
        else (type(one).__name__,)
        for one in answers
    )


@pytest.mark.parametrize("readers", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
async def test_all_readers_of_a_cold_page_cost_the_datacenter_one_read_a_site(
    ground: Ground, tmp_path: Path, logs: Path, readers: int
) -> None:
    async with AsyncExitStack() as stack:
        sites = [
            await stack.enter_async_context(site_of_two(ground, tmp_path, logs, site=site)) for site in SITES
        ]
        workers = [worker for site in sites for worker in site]
        crowd = [await stack.enter_async_context(phones(one, readers // len(workers))) for one in workers]
        gate = shut(workers)
        # The first of each site is not in the crowd: who asks Valkey for a turn on a machine as busy as this one is about to be,
        # and hears too late, asks the datacenter without.
        first = [asyncio.create_task(site[0].get(PATH, PUPIL)) for site in sites]
        await eventually(lambda: all(sent(site) for site in sites), within_s=ASKED_WITHIN_S)
        beside = [asyncio.create_task(site[1].get(PATH, PUPIL)) for site in sites]
        asking = [
            asyncio.create_task(answered(worker, wires)) for worker, wires in zip(workers, crowd, strict=True)
        ]
        for worker in workers:  # comes after the crowd, and finds room to be worked on
            assert (await worker.get("/v1/status", None)).status == 200
        gate.set()
        heard = told([one for answers in await asyncio.gather(*asking) for one in answers])
        heard += told(await asyncio.gather(*first, *beside))
    print({said[2:]: count for said, count in heard.items()}, [sent(site) for site in sites])
    assert {said[:2] for said in heard} == {(200, BODY)}
    assert sum(heard.values()) == readers + len(workers)
    for asks, waits in sites:
        assert 1 <= sent([asks]) <= SENT_MAX
        # On a machine that has other things to do Valkey may be late; who does not hear from it asks for himself.
        assert sent([waits]) <= (0 if readers == MANY else SENT_MAX)


async def test_when_the_worker_that_fetches_is_killed_another_one_of_its_site_fetches_for_all(
    ground: Ground, tmp_path: Path, logs: Path
) -> None:
    async with (
        site_of_two(ground, tmp_path, logs, site="rabat") as (holder, other),
        phones(holder, 20) as lost,
        phones(other, 200) as left,
    ):
        gate = shut([holder])
        cut_off = asyncio.create_task(answered(holder, lost))
        await eventually(lambda: sent([holder]), within_s=ASKED_WITHIN_S)
        waiting = asyncio.create_task(answered(other, left))
        assert (await other.get(f"/v1/pupils/{PUPIL}/grades", PUPIL)).status == 200
        print(f"\nthe datacenter was asked {sent([other])} times by who waits for his turn")
        holder.process.kill()
        heard = told(await waiting)
        assert {said[:2] for said in heard} == {(200, BODY)}
        assert sum(heard.values()) == len(left)
        assert 1 <= sent([other]) <= SENT_MAX
        assert not any(isinstance(one, Heard) for one in await cut_off)
        gate.set()
