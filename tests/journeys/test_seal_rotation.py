"""The key that seals what lies in Valkey, rotated end to end: gateways with old and new key files over one real Valkey."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from cache.sealing import KEY_BYTES
from sandbox.valkey import ValkeyServer
from tests.gateway.people import OTHER_PARENT, PARENT, PUPIL
from tests.gateway.world import World
from tests.journeys.wayward import Ground, Wayward, wayward_datacenters, wayward_world
from tests.waiting import eventually

# An entry in Valkey begins with its order; then comes the id of the key that sealed it.
ORDER_DIGITS = 50
STORED_WITHIN_S = 10.0
FROM_MEMORY, FROM_VALKEY = "massar; hit; detail=memory", "massar; hit; detail=valkey"
FETCHED = "massar; fwd=miss; stored"
FAMILY = (PUPIL, PARENT, OTHER_PARENT)
# What a gateway of this test knows from the start: the calendar, who these people are, a timetable.
KNOWN = 1 + len(FAMILY) + 1
# Numbers of keys, as they stand in a file.
OLD, NEW, NEWEST = 0, 1, 2
KEYS = {number: secrets.token_hex(KEY_BYTES) for number in (OLD, NEW, NEWEST)}


class Site:
    """One site's Valkey and datacenters, and its gateways as they are started again with another key file."""

    def __init__(
        self,
        ground: Ground,
        folder: Path,
        datacenters: Mapping[str, Wayward],
        valkey_url: str,
        stack: AsyncExitStack,
    ) -> None:
        self.rabat = datacenters["rabat"]
        self._ground = ground
        self._folder = folder
        self._datacenters = datacenters
        self._valkey_url = valkey_url
        self._stack = stack
        self._raw = Redis.from_url(valkey_url)
        stack.push_async_callback(self._raw.aclose)

    async def gateway(self, *ring: int, names: int | None = None) -> World:
        """A gateway whose key file holds these keys, the current one first; `names`: of which its names are made."""
        file = self._folder / f"seal-{'-'.join(map(str, ring))}-{secrets.token_hex(4)}.key"
        named = "" if names is None else f"names {KEYS[names]}\n"
        file.write_text(named + "".join(f"{number} {KEYS[number]}\n" for number in ring))
        made = await self._stack.enter_async_context(
            wayward_world(
                self._ground,
                self._datacenters,
                self._folder,
                valkey_url=self._valkey_url,
                seal_key_file=file,
            )
        )
        for who in FAMILY:
            assert (await made.get(f"/v1/pupils/{PUPIL}/timetable", who)).status_code == 200
        return made

    async def sealed(self) -> dict[bytes, int]:
        """The names of all entries, and the key that sealed each."""
        found: dict[bytes, int] = {}
        async for name in self._raw.scan_iter():
            value = await self._raw.get(name)
            if isinstance(value, bytes) and len(value) > ORDER_DIGITS and value[:ORDER_DIGITS].isdigit():
                found[name] = value[ORDER_DIGITS]
        return found

    async def names(self) -> set[bytes]:
        """Every name in Valkey, generations' included."""
        return {name async for name in self._raw.scan_iter()}

    async def stored(self, count: int) -> dict[bytes, int]:
        """Those entries, once there are so many."""

        async def as_many() -> dict[bytes, int] | None:
            found = await self.sealed()
            return found if len(found) == count else None

        found = await eventually(as_many, within_s=STORED_WITHIN_S, what=f"{count} entries in Valkey")
        assert isinstance(found, dict)
        return found

    async def all_sealed_by(self, number: int) -> None:
        """Wait until this key alone has sealed what is there."""

        async def alone() -> bool:
            return set((await self.sealed()).values()) == {number}

        await eventually(alone, within_s=STORED_WITHIN_S, what=f"all sealed by key {number}")


@pytest.fixture
async def site(ground: Ground, tmp_path: Path, valkey_server: ValkeyServer) -> AsyncIterator[Site]:
    """A site whose Valkey is empty."""
    async with AsyncExitStack() as stack:
        datacenters = await stack.enter_async_context(wayward_datacenters())
        made = Site(ground, tmp_path, datacenters, valkey_server.url, stack)
        await made._raw.flushall()
        yield made


def path(day: str) -> str:
    return f"/v1/pupils/{PUPIL}/absences?from={day}"


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers["cache-status"]


def counted(world: World, event: str) -> float:
    """How often a gateway's cache did this."""
    world.metrics.flush()
    value: float = world.metrics._cache.labels(event)._value.get()
    return value


async def test_a_new_key_takes_over_without_a_request_to_the_datacenter_for_what_the_old_one_sealed(
    site: Site,
) -> None:
    old, new = "2027-02-01", "2027-02-02"
    before = await site.gateway(OLD)
    first = await before.get(path(old), PUPIL)
    assert told(first) == (200, FETCHED)
    names = await site.stored(KNOWN + 1)
    assert set(names.values()) == {OLD}

    after = await site.gateway(NEW, OLD)
    site.rabat.seen.clear()
    for who in FAMILY:
        answer = await after.get(path(old), who)
        assert (answer.status_code, answer.content) == (200, first.content)
        assert answer.headers["cache-status"] == (FROM_VALKEY if who == FAMILY[0] else FROM_MEMORY)
    assert site.rabat.seen == []
    assert await site.sealed() == names, "nothing is flushed or sealed again"

    assert told(await after.get(path(new), PUPIL)) == (200, FETCHED)
    everything = await site.stored(len(names) + 1)
    (made,) = everything.keys() - names.keys()
    assert everything[made] == NEW
    again = await site.gateway(NEW, OLD)
    assert told(await again.get(path(new), PARENT)) == (200, FROM_VALKEY)
    assert told(await again.get(path(old), PARENT)) == (200, FROM_VALKEY)
    assert site.rabat.count("/absences") == 1
    assert [counted(world, "seal_broken") for world in (after, again)] == [0, 0]


async def test_a_gateway_that_does_not_know_the_new_key_yet_fetches_for_itself_and_fails_nobody(
    site: Site,
) -> None:
    day = "2027-02-05"
    behind = await site.gateway(OLD)
    ahead = await site.gateway(NEW, OLD)
    first = await ahead.get(path(day), PUPIL)
    assert set((await site.stored(KNOWN + 1)).values()) == {OLD, NEW}
    answer = await behind.get(path(day), PARENT)
    assert (told(answer), answer.content) == ((200, FETCHED), first.content)
    assert counted(behind, "seal_broken") == 1
    await site.all_sealed_by(OLD)
    assert told(await (await site.gateway(NEW, OLD)).get(path(day), PUPIL)) == (200, FROM_VALKEY)


async def test_entries_of_a_key_that_is_gone_are_counted_misses_and_no_error(site: Site) -> None:
    old = "2027-02-03"
    before = await site.gateway(OLD)
    first = await before.get(path(old), PUPIL)
    names = await site.stored(KNOWN + 1)
    site.rabat.seen.clear()
    without = await site.gateway(NEW)
    misses = counted(without, "miss")
    answer = await without.get(path(old), PARENT)
    assert (told(answer), answer.content) == ((200, FETCHED), first.content)
    assert counted(without, "miss") == misses + 1
    assert counted(without, "hit_tier2") == 0
    assert site.rabat.count(f"from={old}") == 1
    assert sorted((await site.stored(2 * len(names))).values()) == [OLD] * len(names) + [NEW] * len(names)
    again = await site.gateway(NEW)
    assert told(await again.get(path(old), PUPIL)) == (200, FROM_VALKEY)
    assert site.rabat.count(f"from={old}") == 1


async def test_what_a_key_from_the_middle_of_the_ring_sealed_is_counted_as_broken_fetched_and_sealed_anew(
    site: Site,
) -> None:
    """The names in Valkey are the oldest key's: while that one stays, what another key sealed is found and not opened."""
    day = "2027-02-04"
    before = await site.gateway(NEW, OLD)
    first = await before.get(path(day), PUPIL)
    names = await site.stored(KNOWN + 1)
    assert set(names.values()) == {NEW}
    site.rabat.seen.clear()
    without = await site.gateway(NEWEST, OLD)
    broken, misses = counted(without, "seal_broken"), counted(without, "miss")
    answer = await without.get(path(day), PARENT)
    assert (told(answer), answer.content) == ((200, FETCHED), first.content)
    assert (counted(without, "seal_broken"), counted(without, "miss")) == (broken + 1, misses + 1)
    assert site.rabat.count(f"from={day}") == 1

    await site.all_sealed_by(NEWEST)
    assert told(await without.get(path(day), PUPIL)) == (200, FROM_MEMORY)
    again = await site.gateway(NEWEST, OLD)
    assert told(await again.get(path(day), OTHER_PARENT)) == (200, FROM_VALKEY)
    assert site.rabat.count(f"from={day}") == 1


# A whole rotation, as docs/operating.md tells it: the keys of each step's file, and whose names it has.
STEPS: dict[str, tuple[tuple[int, ...], int | None]] = {
    "before": ((OLD,), None),
    "names get a line of their own": ((OLD,), OLD),
    "the new key opens": ((OLD, NEW), OLD),
    "the new key seals": ((NEW, OLD), OLD),
    "the old key is gone": ((NEW,), OLD),
    "the next one opens": ((NEW, NEWEST), OLD),
}
GRADES = f"/v1/pupils/{PUPIL}/grades"


async def test_through_a_whole_rotation_every_entry_and_every_purge_is_found(site: Site) -> None:
    """What the old key sealed is found as long as that key is there, and then counted; no name in Valkey changes."""
    sealed_by: dict[str, int] = {}
    names: set[bytes] = set()
    before: World | None = None
    for number, (step, (ring, named)) in enumerate(STEPS.items()):
        now = await site.gateway(*ring, names=named)
        broken = counted(now, "seal_broken")
        gone = {day for day, key in sealed_by.items() if key not in ring}
        assert bool(gone) == (step == "the old key is gone")
        for day in sealed_by:
            assert told(await now.get(path(day), PUPIL)) == (200, FETCHED if day in gone else FROM_VALKEY), (
                step
            )
        assert counted(now, "seal_broken") == broken + len(gone)
        # The entry is found, and so is the purge that came after it.
        assert told(await now.get(GRADES, PUPIL)) == (200, FETCHED), step

        new = f"2027-03-{number + 1:02}"
        assert told(await now.get(path(new), PUPIL)) == (200, FETCHED)
        sealed_by |= dict.fromkeys((*gone, new), ring[0])
        await site.stored(KNOWN + len(sealed_by) + 1)
        if before is not None:  # one that was not started again yet, beside one that was
            assert told(await before.get(path(new), PARENT)) == (200, FROM_VALKEY), step
        await purge_grades(now, place=1_000 + number)
        then, names = names, await site.names()
        assert len(names) == len(then) + 1 or not then, "but for the new day's entry nothing has a new name"
        assert then <= names
        before = now


async def purge_grades(world: World, *, place: int) -> None:
    """Outdate the pupil's grades, in Valkey too."""
    cache = world.app._warm_reads._reads._cache
    (held,) = [held for text, held in cache._memory._held.items() if "/grades/" in text]
    await cache.purge(held.entry.tags[1:], place)
