"""One site's director: looks, tells, judges, and acts on its own site alone, because the record says so.

Invariants: only the would-be target claims; only the target promotes itself; no call from here commands another site.
Every step may be interrupted: a director that begins again goes on from what the record says.
Source: docs/decisions/0003.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import asyncpg
import msgspec
import structlog

from datacenters import control, etcd_keys, observations, promotion, record, verdict
from datacenters.acting import Acting
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from datacenters.feeds import PrefixFeed
from datacenters.quarantine import Quarantine
from datacenters.record import Record, Refusal
from datacenters.rejoin import Rejoining, Rejoins
from datacenters.replay import Replay, ReplayFailed
from datacenters.sites import Sites, with_datacenter
from datacenters.surveying import Surveyor
from datacenters.verdict import Judgement, Observation
from datacenters.word import Word

TICK_S = 0.25
ETCD_TIMEOUT_S = 0.5
OBSERVATION_TTL_S = 2
OUTCOMES_EVERY_TICKS = 4
BACKOFF_MAX_S = 1.0
CLAIM_WORD_MAX_AGE_S = 1.0

# Everything that a PostgreSQL which is away, or going away, may do to its client.
# InternalClientError: what asyncpg says of a connection that ended between two messages.
POSTGRES_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

# What a round may end in without anything being wrong with this process.
_EXPECTED = (
    *POSTGRES_AWAY,
    EtcdUnavailable,
    EtcdRefused,
    msgspec.MsgspecError,
    promotion.PromotionFailed,
    ReplayFailed,
)

_log = structlog.get_logger()
_observation_encoder = msgspec.json.Encoder()
_observation_decoder = msgspec.json.Decoder(Observation)


class Director:
    """Works until cancelled; outlives the absence of etcd, of every datacenter and of its own PostgreSQL."""

    def __init__(
        self,
        etcd: Etcd,
        *,
        site: str,
        sites: Sites,
        dsn: str | None,
        replay: Replay | None = None,
        quarantine: Quarantine | None = None,
        hook: Rejoins | None = None,
        folders: Sequence[Path] = (),
        tick_s: float = TICK_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._etcd = etcd
        self._site = site
        self._by = f"director:{site}"
        self._datacenters = with_datacenter(sites)
        own = sites.get(site)
        self._private_url = own.private_url if own else None
        others = [name for name in self._datacenters if name != site]
        self._rejoining = (
            Rejoining(dsn, site=site, others=others, quarantine=quarantine, hook=hook, clock=clock)
            if dsn
            else None
        )
        self._tick_s = tick_s
        self._clock = clock
        self._monotonic = monotonic
        self._word = Word(monotonic=monotonic)
        self._prober = observations.Prober()
        self._looks = observations.Looks(self._datacenters, now=monotonic())
        self._users = observations.Users()
        self._board = observations.Board()
        self._surveyor = Surveyor(dsn, folders=folders)
        self._sequence = itertools.count(1)
        self._looked = itertools.count()
        self._lease = 0
        self._revision = 0
        self._put_back: bytes | None = None
        self._said: dict[str, str] = {}
        self._moved = asyncio.Event()
        self._feed = PrefixFeed(
            etcd,
            etcd_keys.CONTROL,
            exact=True,
            on_reset=lambda _items: self._moved.set(),
            on_put=lambda _item: self._moved.set(),
            on_delete=lambda _name: None,
            monotonic=monotonic,
        )
        self._acting = Acting(
            dsn,
            etcd=etcd,
            word=self._word,
            site=site,
            by=self._by,
            replay=replay,
            write=self._write,
            observations=lambda: self._board.fresh(monotonic()),
            say=self._say,
            clock=clock,
            monotonic=monotonic,
        )

    async def run(self) -> None:
        """Work until cancelled."""
        await self._take_bearings()
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._datacenters:
                    group.create_task(self._repeat(partial(self._look, name), f"look at {name}"))
                if self._private_url:
                    looking = partial(self._look_at_users, self._private_url)
                    group.create_task(self._repeat(looking, "look at users"))
                group.create_task(self._repeat(self._confer, "confer", wake=self._moved))
                group.create_task(self._follow())
                for duty in self._acting.duties():
                    repeated = self._repeat(duty.work, duty.name, on_failure=duty.on_failure, wake=duty.wake)
                    group.create_task(repeated)
                if self._rejoining:
                    group.create_task(self._keep_rejoining(self._rejoining))
                group.create_task(self._surveyor.run())
        finally:
            self._acting.drop()
            await self._feed.stop()
            await self._prober.aclose()

    async def _take_bearings(self) -> None:
        """Know what the datacenters know before etcd is heard: it may have been put back to an older state."""
        with contextlib.suppress(*POSTGRES_AWAY):
            looks = (self._look(name) for name in self._datacenters)
            await asyncio.gather(*looks, self._acting.take_bearings())

    async def _look(self, name: str) -> None:
        """Probe one datacenter. Each has its own turn: one that hangs must not make what is known of another old."""
        health = await self._prober.health(name, self._datacenters[name])
        self._looks.note(name, health, now=self._monotonic())
        self._word.know(health.epoch if health else 0)

    async def _look_at_users(self, private_url: str) -> None:
        """Now and then ask the own gateway how its users fare."""
        if next(self._looked) % OUTCOMES_EVERY_TICKS == 0:
            self._users.note(await self._prober.outcomes(private_url), now=self._monotonic())

    async def _confer(self) -> None:
        """Hear the record, hear the others, tell them, and decide."""
        asked_at = self._monotonic()
        try:
            held = await control.read(self._etcd)
            self._word.hear(held, asked_at=asked_at)
            self._tell_record(held)
            listing = await self._etcd.range(etcd_keys.OBSERVATIONS, prefix=True)
            self._watch_revision(listing.revision, held)
            own = self._observation()
            await self._publish(own)
        except (EtcdUnavailable, EtcdRefused) as error:
            self._say("etcd", "silent", f"etcd does not answer: {error}; routing and roles stay as they are")
            return
        self._say("etcd", "answers", "etcd answers")
        for item in listing.items:
            self._note(item.value)
        now = self._monotonic()
        self._board.note(own, now=now)
        await self._decide(self._board.fresh(now))

    def _note(self, raw: bytes) -> None:
        try:
            seen = _observation_decoder.decode(raw)
        except msgspec.MsgspecError as error:
            self._say("observation", str(error), f"an observation is unreadable: {error}")
            return
        self._word.know(seen.highest_epoch)
        if seen.site != self._site:
            self._board.note(seen, now=self._monotonic())

    def _watch_revision(self, revision: int, held: control.Held | None) -> None:
        """Notice an etcd that was put back to an older state, also where its epoch is the same."""
        before, self._revision = self._revision, revision
        if revision < before:
            _log.error("etcd was put back", site=self._site, revision=revision, before=before)
            self._put_back = held.raw if held else None
            self._acting.rewound()

    def _observation(self) -> Observation:
        now = self._monotonic()
        return Observation(
            site=self._site,
            sequence=next(self._sequence),
            looks=self._looks.at(now),
            users_failing_s=self._users.failing_s(now),
            users_failed=self._users.failed(),
            fenced=self._rejoining.told if self._rejoining else None,
            highest_epoch=self._word.highest,
            fence=self._acting.fence_row,
            wall_at=self._clock(),
            ground=self._surveyor.latest,
        )

    async def _publish(self, own: Observation) -> None:
        if not self._lease or not await self._etcd.keep_alive(self._lease):
            self._lease = await self._etcd.grant(OBSERVATION_TTL_S)
        key = etcd_keys.observation(self._site)
        await self._etcd.put(key, _observation_encoder.encode(own), lease=self._lease)

    def _tell_record(self, held: control.Held | None) -> None:
        if held is not None and held.record.epoch < self._word.highest:
            known = f"etcd declares epoch {held.record.epoch}, epoch {self._word.highest} is known"
            self._say("record", known, f"{known}: it is disbelieved (docs/runbooks/etcd-put-back.md)")
            return
        declared = self._word.record
        if declared is None:
            self._say("record", "none", "no record in etcd: nothing is declared")
            return
        shown = f"epoch {declared.epoch} {declared.phase} active {declared.active}"
        self._say("record", shown, f"{shown}, decided by {declared.decided_by}: {declared.reason}")

    async def _decide(self, seen: dict[str, Observation]) -> None:
        declared = self._word.record
        if declared is None or self._site not in self._datacenters or declared.serving in {None, self._site}:
            return
        judgement = verdict.judge(seen, active=declared.active, target=self._site)
        self._say(
            "verdict", f"{judgement.verdict} {judgement.sites}", judgement.sentence, verdict=judgement.verdict
        )
        if judgement.allows_move:
            await self._claim(judgement, seen)

    async def _claim(self, judgement: Judgement, seen: dict[str, Observation]) -> None:
        held = self._word.held
        if held is None or self._word.age_s() >= CLAIM_WORD_MAX_AGE_S:
            self._say("claim", "word", "no claim: etcd's majority has not answered within the last second")
            return
        if held.raw == self._put_back:
            self._say(
                "claim", "put back", "no claim: etcd was put back, its journal may lack acknowledged writes"
            )
            return
        asked_at = self._monotonic()
        after = record.claim(
            held.record,
            target=self._site,
            reason=judgement.sentence,
            evidence=judgement.evidence(seen),
            now=self._clock(),
            by=self._by,
            clocks=[one.wall_at for one in seen.values() if one.wall_at],
        )
        if isinstance(after, Refusal):
            self._say("claim", "refused", f"no claim: {after.reason}")
            return
        if await self._write(held, after, asked_at):
            self._say("claim", f"epoch {after.epoch}", f"claimed epoch {after.epoch}: {after.reason}")

    async def _write(self, held: control.Held, after: Record, asked_at: float) -> bool:
        """Change the record; whatever comes of it, the next word tells."""
        try:
            done = await control.change(self._etcd, held, after)
        except (EtcdUnavailable, EtcdRefused) as error:
            self._say("write", str(error), f"the change to {after.phase} is not known to stand: {error}")
            return False
        if not done:
            self._say("write", "lost", f"the change to {after.phase} came too late: the record had changed")
            return False
        self._word.hear(control.Held(record=after, raw=record.encode(after)), asked_at=asked_at)
        return True

    async def _follow(self) -> None:
        """Hear of every change of the record at once; without the watch the next round hears of it."""
        await self._feed.start(within_s=0.0)

    async def _keep_rejoining(self, rejoining: Rejoining) -> None:
        async def step() -> None:
            await rejoining.step(self._word.record, word_age_s=self._word.age_s)

        try:
            await self._repeat(step, "rejoin", on_failure=rejoining.drop)
        finally:
            rejoining.drop()

    async def _repeat(
        self,
        work: Callable[[], Awaitable[None]],
        name: str,
        *,
        on_failure: Callable[[], None] = lambda: None,
        wake: asyncio.Event | None = None,
    ) -> None:
        """Do `work` every tick for ever, or when `wake` is set; a failure is told once, and waited after."""
        backoff_s = self._tick_s
        while True:
            began = self._monotonic()
            try:
                await work()
            except _EXPECTED as error:
                on_failure()
                self._say(name, f"failed {type(error).__name__}", f"{name}: {type(error).__name__}: {error}")
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)
            except Exception:  # noqa: BLE001 - a director that ends would leave its site without a guard
                on_failure()
                _log.exception("director failed", site=self._site, loop=name)
                backoff_s = BACKOFF_MAX_S
            else:
                backoff_s = self._tick_s
            await _sleep(max(0.0, began + backoff_s - self._monotonic()), wake)

    def _say(self, subject: str, meaning: str, sentence: str, **facts: str) -> None:
        """Log a sentence when it means something else than the last one on the same subject."""
        if self._said.get(subject) != meaning:
            self._said[subject] = meaning
            _log.info(sentence, site=self._site, subject=subject, **facts)


async def _sleep(seconds: float, wake: asyncio.Event | None) -> None:
    if wake is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
    wake.clear()
