"""Warm reads: what this process may answer at once by what it holds; and what it finds in tier 2 for a caller whom it could
let in at once.

Invariant: a warm hit passes the same token check, access table and rate limit as any other request, and nothing is awaited.
What was decided for the same caller and target before is used again only while every entry that it was decided by still
holds (`gateway.decisions`); every refusal is made inside, where its problem is rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from auth.access import allow
from auth.principal import Principal, Relation, Role
from auth.verified import Verified
from cache.asking import Ask
from cache.memory import Held
from cache.reading import State
from cache.store import Cache
from datacenters.position import NOWHERE, parse
from gateway.answering import LEFT
from gateway.decisions import Allowed, Decision, Decisions
from gateway.logs import AccessLog, words
from gateway.metrics import Metrics
from gateway.prepared import EMPTY, Prepared, prepare, prepare_entry
from gateway.rate_limit import RateLimit
from gateway.reading import CachedReads
from gateway.relations import Relations
from gateway.request_ids import RequestIds
from gateway.scope import Message, Scope
from gateway.settings import Settings
from gateway.standing import Now, Standing
from routes.answers import etag_matches
from routes.endpoint import CachedRead, Endpoint, parse_query, path_names_something, resolve

# Kinds of lines: routes, methods, statuses, roles and relations are few, epochs follow each other.
WORDS_MAX = 4096
_OF_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
# A size beyond every bound: what a read says of a body is judged where that of every request is.
_NEVER_WARM = 1 << 40

Messages: TypeAlias = tuple[Message, Message]


class Wanted(NamedTuple):
    """A read whose caller is let in, and whose answer is not in tier 1. `started`: monotonic seconds."""

    endpoint: Endpoint
    method: str
    role: Role
    relation: Relation | None
    ask: Ask
    if_none_match: bytes | None
    accept_encoding: bytes | None
    started: float


class _LetIn(NamedTuple):
    """What was found out about a caller and a target, and the entries that say so."""

    relation: Relation | None
    params: dict[str, str]
    facts: Held
    calendar: Held | None


class WarmReads:
    """Answers the endpoints of the table of hot routes where the tiers can."""

    def __init__(
        self,
        *,
        settings: Settings,
        verified: Verified,
        relations: Relations,
        reads: CachedReads,
        cache: Cache,
        rate_limit: RateLimit,
        standing: Standing,
        request_ids: RequestIds,
        metrics: Metrics,
        access_log: AccessLog,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._verified = verified
        self._relations = relations
        self._reads = reads
        self._cache = cache
        self._rate_limit = rate_limit
        self._standing = standing
        self._request_ids = request_ids
        self._metrics = metrics
        self._access_log = access_log
        self._clock = clock
        self._monotonic = monotonic
        self._decisions = Decisions()
        self._words: dict[tuple[str, str, int, Role, Relation | None, int], bytes] = {}
        self._header_bytes_max = settings.header_bytes_max
        self._target_bytes_max = settings.target_bytes_max
        self._show_cache_status = settings.show_cache_status

    def answer(
        self, endpoint: Endpoint, read: CachedRead, path: dict[str, str], scope: Scope
    ) -> Messages | Wanted | None:
        """The messages of a warm hit; else what `find` may find; else None, where the caller is not let in at once."""
        target, query = scope["path"], scope["query_string"]
        authorization, if_none_match, accept_encoding, after, size = _fields(scope["headers"])
        now, standing = self._clock(), self._standing.now()
        if (
            size > self._header_bytes_max
            or len(target) + len(query) > self._target_bytes_max
            or not (read.shared or standing.hears_denials)
        ):
            return None
        try:
            position = NOWHERE if after is None else parse(after.decode("ascii"))
            principal = self._verified.check(authorization, now)
            decision = self._decisions.get((principal.sid, target, query))
            held = None if decision is None else self._still(decision, principal, now, standing)
            if decision is None or held is None or held.entry.position < position:
                let_in = self._let_in(endpoint, path, query, principal, now)
                ask = self._reads.ask(read, let_in.params, not_before=position)
                held = self._cache.peek_for(ask, now)
                if held is None:
                    self._rate_limit.admit(principal.subject)
                    return Wanted(
                        endpoint, scope["method"], principal.role, let_in.relation, ask, if_none_match, accept_encoding,
                        self._monotonic(),
                    )  # fmt: skip
                decision = Decision(
                    principal, let_in.relation, facts=let_in.facts, calendar=let_in.calendar, held=held
                )
                self._decisions.keep(principal.sid, target, query, decision)
            self._rate_limit.admit(principal.subject)
        except Exception:  # noqa: BLE001 - every refusal is made inside, where its problem is rendered
            return None
        return self._hit(
            endpoint, scope["method"], decision, held, if_none_match, accept_encoding, standing, now
        )

    async def find(self, wanted: Wanted) -> Messages | Allowed:
        """The messages of a hit in tier 2; else what whoever goes on needs to know."""
        found = await self._cache.find(wanted.ask)
        reading = found[0]
        if reading is None or reading.state is not State.HIT:
            return Allowed(wanted.role, wanted.relation, wanted.ask, found)
        prepared = prepare_entry(reading.entry, wanted.accept_encoding)
        standing, request_id = self._standing.now(), self._request_ids.next()
        detail = b"massar; hit; detail=memory" if reading.tier == 1 else b"massar; hit; detail=valkey"
        messages = self._messages(
            prepared, wanted.method, wanted.if_none_match, request_id, standing, detail, reading.age_s
        )
        self._tell(wanted, request_id, messages[0]["status"], reading.state)
        return messages

    def left(self, wanted: Wanted) -> None:
        """Tell of a request whose client left while `find` looked."""
        self._tell(wanted, self._request_ids.next(), LEFT, "-")

    def _tell(self, wanted: Wanted, request_id: bytes, status: int, outcome: str) -> None:
        """Count, time and log a request that was no warm hit, as the edge does with all others."""
        route, seconds = wanted.endpoint.path, self._monotonic() - wanted.started
        self._metrics.request(route, wanted.method, status, seconds)
        said = words(
            route=route,
            method=wanted.method,
            status=status,
            outcome=outcome,
            ms=seconds * 1000,
            epoch=self._standing.now().epoch,
            role=wanted.role,
            relation=wanted.relation or "-",
            rule=wanted.endpoint.rule,
        )
        self._access_log.write(request_id, said)

    def _still(self, decision: Decision, principal: Principal, now: float, standing: Now) -> Held | None:
        """The entry of a decision made before, if nothing it was made by has changed."""
        held, facts = decision.held(), decision.facts()
        if held is None or facts is None or decision.principal is not principal or now >= facts.ahead_at:
            return None
        still, heard = self._cache.still, standing.hears_purges
        if not (still(facts, now, hears_purges=heard) and still(held, now, hears_purges=heard)):
            return None
        if decision.calendar is not None:
            calendar = decision.calendar()
            if calendar is None or not still(calendar, now, hears_purges=heard):
                return None
        return held

    def _let_in(
        self, endpoint: Endpoint, path: dict[str, str], query: bytes, principal: Principal, now: float
    ) -> _LetIn:
        """Who may see what, anew. Raises: every refusal of auth, and `_Cold`."""
        known = self._relations.peek(principal.subject, now)
        if known is None or not path_names_something(path):
            raise _Cold
        facts_held, facts = known
        relation = allow(principal, facts, endpoint.rule, path)
        needs_calendar = any(parameter.default for parameter in endpoint.query)
        calendar = self._reads.known_calendar(now) if needs_calendar else None
        params = resolve(
            endpoint,
            path=path,
            query=parse_query(endpoint, query) if query else {},
            calendar=None if calendar is None else calendar[1],
            principal=principal,
            facts=facts,
        )
        if params is None:
            raise _Cold
        return _LetIn(relation, params, facts_held, None if calendar is None else calendar[0])

    def _hit(
        self,
        endpoint: Endpoint,
        method: str,
        decision: Decision,
        held: Held,
        if_none_match: bytes | None,
        accept_encoding: bytes | None,
        standing: Now,
        now: float,
    ) -> Messages:
        prepared, request_id = prepare(held, accept_encoding), self._request_ids.next()
        messages = self._messages(
            prepared, method, if_none_match, request_id, standing, b"massar; hit; detail=memory",
            now - held.entry.stored_at,
        )  # fmt: skip
        status = messages[0]["status"]
        self._metrics.warm_hit(endpoint.path, method, status)
        kind = (endpoint.path, method, status, decision.principal.role, decision.relation, standing.epoch)
        said = self._words.get(kind)
        if said is None:
            said = self._said(endpoint, kind)
        self._access_log.write(request_id, said)
        return messages

    def _messages(
        self,
        prepared: Prepared,
        method: str,
        if_none_match: bytes | None,
        request_id: bytes,
        standing: Now,
        cache_status: bytes,
        age_s: float,
    ) -> Messages:
        status, own, body = 200, prepared.full, prepared.body
        if if_none_match is not None and etag_matches(if_none_match.decode("latin-1"), prepared.etag):
            status, own, body = 304, prepared.unchanged, EMPTY
        elif method == "HEAD":
            body = EMPTY
        headers = [*own, (b"massar-request-id", request_id), *standing.headers]
        if self._show_cache_status:
            headers += [(b"cache-status", cache_status), (b"age", b"%d" % max(0.0, age_s))]
        return {"type": "http.response.start", "status": status, "headers": headers}, body

    def _said(self, endpoint: Endpoint, kind: tuple[str, str, int, Role, Relation | None, int]) -> bytes:
        """What the log says of every warm hit of one kind, made once."""
        if len(self._words) >= WORDS_MAX:
            self._words.clear()
        route, method, status, role, relation, epoch = kind
        said = self._words[kind] = words(
            route=route,
            method=method,
            status=status,
            outcome="hit",
            ms=0.0,
            epoch=epoch,
            role=role,
            relation=relation or "-",
            rule=endpoint.rule,
        )
        return said


def _fields(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[bytes | None, bytes | None, bytes | None, bytes | None, int]:
    """Authorization, If-None-Match, Accept-Encoding, Massar-Position and the size of all; what comes twice is joined."""
    authorization = if_none_match = accept_encoding = position = None
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"authorization":
            # Two of them are refused inside; the join is no token either way.
            authorization = value if authorization is None else authorization + b"," + value
        elif name == b"if-none-match":
            if_none_match = value if if_none_match is None else if_none_match + b"," + value
        elif name == b"accept-encoding":
            accept_encoding = value if accept_encoding is None else accept_encoding + b"," + value
        elif name == b"massar-position":
            position = value if position is None else position + b"," + value
        elif name in _OF_A_BODY:
            size += _NEVER_WARM
    return authorization, if_none_match, accept_encoding, position, size


class _Cold(Exception):
    """Something is not in tier 1; whoever asked looks further."""
