"""The whole gateway, put together once and in reading order: constructors only.

Invariant: nothing here does I/O before the lifespan starts; every part gets what it needs as an argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from auth.accounts import open_engine
from auth.denials import Denials
from auth.keys import SigningKeys
from auth.passwords import Passwords
from auth.sign_in import SignIn
from auth.throttles import Throttles
from auth.tokens import Tokens
from auth.verified import Verified
from cache.generations import Generations
from cache.memory import MemoryTier
from cache.sealing import Sealer, SealingKeys
from cache.store import Cache
from cache.valkey import ValkeyTier
from datacenters.directory import Directory
from datacenters.etcd import Etcd
from datacenters.feeds import Publisher
from datacenters.forwarding import Forwarder
from datacenters.journal import Journal
from datacenters.journal_seal import JournalSeal
from datacenters.sender_keys import read_private_key
from gateway.admission import Admission
from gateway.cold_reads import ColdReads
from gateway.condition import Condition
from gateway.edge import Edge
from gateway.failures import Failures
from gateway.feeds import Feeds
from gateway.guard import Guard
from gateway.holding import Holding
from gateway.home_parts import HomeParts
from gateway.hot_routes import HotRoutes
from gateway.logs import AccessLog
from gateway.metrics import Metrics
from gateway.rate_limit import RateLimit
from gateway.reading import CachedReads
from gateway.relations import Relations
from gateway.request_ids import RequestIds
from gateway.router import build_router, endpoints, lifespan_of
from gateway.school_sites import build_school_sites
from gateway.scope import ASGI
from gateway.settings import Settings
from gateway.signing_in import Deny, SigningIn
from gateway.standing import Standing
from gateway.trail import NotingForwarder
from gateway.warm_reads import WarmReads
from gateway.writing import ForwardedWrites

TAGS_MAX = 500_000


def create_app(
    settings: Settings,
    *,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Edge:
    """The gateway as one ASGI callable. Raises what unusable key files raise."""
    metrics = metrics if metrics is not None else Metrics()
    access_log, request_ids = AccessLog(clock), RequestIds()
    auth = _auth(settings)
    datacenters = _datacenters(settings, metrics, clock, monotonic)
    cache = _cache(settings, metrics, clock, monotonic)

    feeds = Feeds(
        datacenters.etcd, datacenters.directory, auth.denials, cache, clock=clock, monotonic=monotonic
    )
    relations, standing, reads = _reading(settings, cache, datacenters, feeds, clock, monotonic)
    writes = _writes(datacenters, cache, clock)
    accounts = _accounts(settings)
    signing_in = _signing_in(auth, datacenters, accounts, clock)
    rate_limit = RateLimit(per_s=settings.rate_per_s, burst=settings.rate_burst)
    school_sites = build_school_sites(settings, metrics, clock=clock, monotonic=monotonic)

    async def stop() -> None:
        await feeds.stop()
        for part in (school_sites, writes, cache, datacenters):
            if part is not None:
                await part.aclose()
        for engine in accounts.values():
            await engine.dispose()
        auth.passwords.close()
        metrics.flush()
        access_log.flush()

    admission = Admission(auth.verified, relations, rate_limit, clock=clock)
    failures = Failures(problem_base_url=settings.problem_base_url, metrics=metrics)
    router = build_router(
        settings,
        failures,
        guard=Guard(admission),
        lifespan=lifespan_of(feeds.start, stop),
        reads=reads,
        writes=writes,
        home=HomeParts(problem_base_url=settings.problem_base_url),
        signing_in=signing_in,
        sessions=signing_in,
        condition=_condition(settings, auth, datacenters, standing),
        problem_base_url=settings.problem_base_url,
    )
    warm_reads = WarmReads(
        settings=settings, verified=auth.verified, relations=relations, reads=reads, cache=cache, rate_limit=rate_limit,
        standing=standing, request_ids=request_ids, metrics=metrics, access_log=access_log, clock=clock, monotonic=monotonic,
    )  # fmt: skip
    return Edge(
        cast("ASGI", router),
        settings=settings,
        hot_routes=HotRoutes(endpoints()),
        warm_reads=warm_reads,
        cold_reads=ColdReads(admission, reads, failures).answer,
        standing=standing,
        request_ids=request_ids,
        metrics=metrics,
        access_log=access_log,
        monotonic=monotonic,
        school_sites=school_sites,
    )


class _Reading(NamedTuple):
    relations: Relations
    standing: Standing
    reads: CachedReads


def _reading(
    settings: Settings,
    cache: Cache,
    datacenters: _Datacenters,
    feeds: Feeds,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
) -> _Reading:
    standing = Standing(
        datacenters.directory,
        denials_silent_for_s=feeds.denials_silent_for_s,
        purges_silent_for_s=feeds.purges_silent_for_s,
        denial_silence_max_s=settings.denial_silence_max_s,
        clock=clock,
        monotonic=monotonic,
    )
    return _Reading(
        relations=Relations(cache, datacenters.forwarder, clock=clock),
        standing=standing,
        reads=CachedReads(
            cache,
            datacenters.forwarder,
            datacenters.directory,
            standing,
            show_cache_status=settings.show_cache_status,
            clock=clock,
        ),
    )


class _Auth(NamedTuple):
    keys: SigningKeys
    tokens: Tokens
    denials: Denials
    verified: Verified
    passwords: Passwords


def _auth(settings: Settings) -> _Auth:
    keys = SigningKeys.load(settings.access_keys_dir)
    access_tokens = Tokens(keys, issuer=settings.issuer)
    denials = Denials()
    return _Auth(
        keys=keys,
        tokens=access_tokens,
        denials=denials,
        verified=Verified(access_tokens, denials, memo_max=settings.token_memo_max),
        passwords=Passwords(concurrent_max=settings.sign_ins_max, waiting_max=settings.sign_ins_waiting_max),
    )


class _Datacenters(NamedTuple):
    etcd: Etcd
    publisher: Publisher
    journal: Journal
    directory: Directory
    holding: Holding
    forwarder: Forwarder

    async def aclose(self) -> None:
        await self.journal.aclose()
        await self.forwarder.aclose()
        await self.etcd.aclose()


def _datacenters(
    settings: Settings, metrics: Metrics, clock: Callable[[], float], monotonic: Callable[[], float]
) -> _Datacenters:
    etcd = Etcd(settings.etcd_urls)
    directory = Directory(etcd, site=settings.site, sites=settings.sites, monotonic=monotonic)
    forwarder = NotingForwarder(
        directory,
        sites=settings.sites,
        site=settings.site,
        assertion_key=read_private_key(settings.assertion_key_file),
        on_outcome=lambda datacenter, outcome: metrics.forwarded(datacenter, outcome.value),
        on_user=lambda datacenter, well: metrics.user(datacenter, well=well),
        events=metrics.forwarding,
        clock=clock,
        monotonic=monotonic,
    )
    publisher = Publisher(etcd, clock=clock, monotonic=monotonic)
    journal = Journal(etcd, publisher, JournalSeal.load(settings.journal_key_file))
    # What waits is in flight as well: half of the room stays for reads.
    holding = Holding(directory, held_max=max(1, settings.in_flight_max // 2))
    return _Datacenters(etcd, publisher, journal, directory, holding, forwarder)


def _cache(
    settings: Settings, metrics: Metrics, clock: Callable[[], float], monotonic: Callable[[], float]
) -> Cache:
    sealing_keys = SealingKeys.parse(settings.seal_key_file.read_text("ascii"))
    valkey = None
    if settings.valkey_url:
        valkey = ValkeyTier(settings.valkey_url, name_secret=sealing_keys.name_secret, monotonic=monotonic)
    return Cache(
        memory=MemoryTier(max_bytes=settings.memory_bytes_max),
        generations=Generations(max_tags=TAGS_MAX),
        clock=clock,
        valkey=valkey,
        sealer=Sealer(sealing_keys),
        on_event=lambda event: metrics.cache_event(event.value),
    )


def _writes(datacenters: _Datacenters, cache: Cache, clock: Callable[[], float]) -> ForwardedWrites:
    return ForwardedWrites(
        datacenters.forwarder,
        datacenters.publisher,
        datacenters.journal,
        datacenters.directory,
        datacenters.holding,
        cache,
        clock=clock,
    )


def _condition(settings: Settings, auth: _Auth, datacenters: _Datacenters, standing: Standing) -> Condition:
    return Condition(
        datacenters.directory,
        auth.keys,
        settings.sites,
        mode=lambda: standing.mode,
        metrics_dir=settings.metrics_dir,
    )


def _accounts(settings: Settings) -> dict[str, AsyncEngine]:
    return {
        name: open_engine(site.accounts_dsn) for name, site in settings.sites.items() if site.accounts_dsn
    }


def _signing_in(
    auth: _Auth,
    datacenters: _Datacenters,
    accounts: Mapping[str, AsyncEngine],
    clock: Callable[[], float],
) -> SigningIn:
    sign_in = SignIn(
        tokens=auth.tokens,
        passwords=auth.passwords,
        throttles=Throttles(),
        deny=Deny(
            datacenters.publisher,
            datacenters.journal,
            datacenters.directory,
            accounts,
            auth.denials,
            clock=clock,
        ),
        clock=clock,
    )
    return SigningIn(sign_in, accounts, datacenters.directory, datacenters.holding)
