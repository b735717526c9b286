"""The whole gateway, put together once and in reading order: constructors only.

Invariant: nothing here does I/O before the lifespan starts; every part gets what it needs as an argument.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, TypeAlias, cast

from litestar import Litestar, Request, Response, route
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
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
from gateway.school_sites import build_school_sites
from gateway.scope import ASGI
from gateway.settings import Settings
from gateway.signing_in import Deny, SigningIn
from gateway.trail import NotingForwarder
from gateway.writing import ForwardedWrites
from routes import (
    absences,
    announcements,
    classes,
    gradebooks,
    grades,
    home,
    homework,
    me,
    sessions,
    status,
    teachers,
    timetables,
    tokens,
)
from routes.endpoint import Endpoint, Reads

TAGS_MAX = 500_000

HANDLERS: tuple[HTTPRouteHandler, ...] = (
    tokens.sign_in,
    tokens.refresh,
    sessions.list_sessions,
    sessions.end_sessions,
    sessions.end_session,
    me.read_me,
    home.read_home,
    announcements.read_announcements,
    timetables.read_timetable,
    grades.read_grades,
    absences.read_absences,
    homework.read_homework,
    teachers.read_assignments,
    classes.read_roster,
    classes.record_attendance,
    gradebooks.read_gradebook,
    gradebooks.enter_marks,
    homework.assign_homework,
    status.read_status,
    status.read_jwks,
    status.read_livez,
    status.read_readyz,
)


def endpoints() -> tuple[Endpoint, ...]:
    """What every handler declares about itself, in documentation order."""
    return tuple(handler.opt["endpoint"] for handler in HANDLERS)


def create_app(
    settings: Settings,
    *,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Edge:
    """The gateway as one ASGI callable. Raises what unusable key files raise."""
    metrics = metrics if metrics is not None else Metrics()
    access_log = AccessLog(clock)
    auth = _auth(settings)
    datacenters = _datacenters(settings, metrics, clock, monotonic)
    cache = _cache(settings, metrics, clock, monotonic)

    feeds = Feeds(
        datacenters.etcd, datacenters.directory, auth.denials, cache, clock=clock, monotonic=monotonic
    )
    relations = Relations(cache, datacenters.forwarder, clock=clock)
    reads = _reads(settings, cache, datacenters, feeds, clock)
    writes = _writes(datacenters, cache, clock)
    accounts = _accounts(settings)
    signing_in = _signing_in(auth, datacenters, accounts, clock)
    rate_limit = RateLimit(per_s=settings.rate_per_s, burst=settings.rate_burst)
    school_sites = build_school_sites(settings, metrics, clock=clock, monotonic=monotonic)

    async def stop() -> None:
        await feeds.stop()
        if school_sites is not None:
            await school_sites.aclose()
        await writes.aclose()
        await cache.aclose()
        await datacenters.aclose()
        for engine in accounts.values():
            await engine.dispose()
        auth.passwords.close()
        metrics.flush()
        access_log.flush()

    admission = Admission(auth.verified, relations, rate_limit, clock=clock)
    failures = Failures(problem_base_url=settings.problem_base_url, metrics=metrics)
    app = _litestar(
        settings,
        failures,
        guard=Guard(admission),
        lifespan=_lifespan(feeds.start, stop),
        reads=reads,
        writes=writes,
        home=HomeParts(problem_base_url=settings.problem_base_url),
        signing_in=signing_in,
        sessions=signing_in,
        condition=_condition(settings, auth, datacenters, reads),
        problem_base_url=settings.problem_base_url,
    )
    return Edge(
        cast("ASGI", app),
        settings=settings,
        hot_routes=HotRoutes(endpoints()),
        cold_reads=ColdReads(admission, reads, failures).answer,
        verified=auth.verified,
        relations=relations,
        reads=reads,
        rate_limit=rate_limit,
        directory=datacenters.directory,
        metrics=metrics,
        access_log=access_log,
        clock=clock,
        monotonic=monotonic,
        school_sites=school_sites,
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


def _reads(
    settings: Settings, cache: Cache, datacenters: _Datacenters, feeds: Feeds, clock: Callable[[], float]
) -> CachedReads:
    return CachedReads(
        cache,
        datacenters.forwarder,
        datacenters.directory,
        denials_silent_for_s=feeds.denials_silent_for_s,
        purges_silent_for_s=feeds.purges_silent_for_s,
        denial_silence_max_s=settings.denial_silence_max_s,
        show_cache_status=settings.show_cache_status,
        clock=clock,
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


def _condition(settings: Settings, auth: _Auth, datacenters: _Datacenters, reads: CachedReads) -> Condition:
    return Condition(
        datacenters.directory,
        auth.keys,
        settings.sites,
        mode=lambda: reads.mode,
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


Lifespan: TypeAlias = Callable[[Litestar], AbstractAsyncContextManager[None]]


def _lifespan(start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await start()
        try:
            yield
        finally:
            await stop()

    return lifespan


def _litestar(
    settings: Settings, failures: Failures, *, guard: Guard, lifespan: Lifespan, **provided: Any
) -> Litestar:
    # All on the application itself, not on a Router: Litestar deep-copies routers, parts and all.
    return Litestar(
        [*_options_handlers(), *HANDLERS],
        guards=[guard],
        dependencies=_provided(**provided),
        exception_handlers={Exception: failures.handle},
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=settings.body_bytes_max,
    )


def _provided(reads: CachedReads, **existing: Any) -> dict[str, Provide]:
    def handing_over(part: Any) -> Callable[[], Any]:
        return lambda: part

    provided = {
        name: Provide(handing_over(part), use_cache=True, sync_to_thread=False)
        for name, part in existing.items()
    }
    return provided | {"reads": Provide(_reads_of(reads), sync_to_thread=False)}


def _reads_of(reads: CachedReads) -> Callable[..., Reads]:
    def reads_of(request: Request[Any, Any, Any]) -> Reads:
        caller = request.scope.get("user")
        return reads if caller is None else reads.after(caller.not_before)

    return reads_of


def _options_handlers() -> list[HTTPRouteHandler]:
    """One per path, and before the others: of a path with two handlers Litestar's own knows only the first's methods."""
    methods: dict[str, set[str]] = {}
    for handler in HANDLERS:
        for path in handler.paths:
            methods.setdefault(path, {"OPTIONS"}).update(map(str, handler.http_methods))
    return [_options_handler(path, ", ".join(sorted(found))) for path, found in methods.items()]


def _options_handler(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method=["OPTIONS"], sync_to_thread=False)
    def tell_methods() -> Response[None]:
        return Response(None, status_code=204, headers={"allow": allow})

    return tell_methods
