"""Warm reads: what this process may answer at once by what it holds, without a word to anybody.

Invariant: a warm hit passes the same token check, access table and rate limit as any other request, and nothing is awaited.
What was decided for the same caller and target before is used again only while every entry that it was decided by still
holds (`gateway.decisions`); every refusal is made inside, where its problem is rendered.
"""

from __future__ import annotations

from collections.abc import Callable

from auth.access import allow
from auth.principal import Principal, Relation, Role
from auth.verified import Verified
from cache.memory import Held
from cache.store import Cache
from datacenters.position import parse
from gateway.decisions import Decision, Decisions
from gateway.logs import AccessLog, words
from gateway.metrics import Metrics
from gateway.prepared import EMPTY, prepare
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


class WarmReads:
    """Answers the endpoints of the table of hot routes where tier 1 can."""

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
        self._decisions = Decisions()
        self._words: dict[tuple[str, str, int, Role, Relation | None, int], bytes] = {}
        self._header_bytes_max = settings.header_bytes_max
        self._target_bytes_max = settings.target_bytes_max
        self._show_cache_status = settings.show_cache_status

    def answer(
        self, endpoint: Endpoint, read: CachedRead, path: dict[str, str], scope: Scope
    ) -> tuple[Message, Message] | None:
        """The two messages of a warm hit, or None when this process cannot say at once."""
        target, query = scope["path"], scope["query_string"]
        authorization = if_none_match = position = accept_encoding = None
        header_bytes = 0
        for name, value in scope["headers"]:
            header_bytes += len(name) + len(value)
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
                return None  # judged where those of every request are
        now, standing = self._clock(), self._standing.now()
        if (
            header_bytes > self._header_bytes_max
            or len(target) + len(query) > self._target_bytes_max
            or not (read.shared or standing.hears_denials)
        ):
            return None
        try:
            principal = self._verified.check(authorization, now)
            decision = self._decisions.get((principal.sid, target, query))
            held = None if decision is None else self._still(decision, principal, now, standing)
            if decision is None or held is None:
                decision, held = self._decided(endpoint, read, path, query, principal, now)
                self._decisions.keep(principal.sid, target, query, decision)
            if position is not None and held.entry.position < parse(position.decode("ascii")):
                return None
            self._rate_limit.admit(principal.subject)
        except Exception:  # noqa: BLE001 - every refusal is made inside, where its problem is rendered
            return None
        return self._messages(
            endpoint, scope["method"], decision, held, if_none_match, accept_encoding, standing, now
        )

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

    def _decided(
        self,
        endpoint: Endpoint,
        read: CachedRead,
        path: dict[str, str],
        query: bytes,
        principal: Principal,
        now: float,
    ) -> tuple[Decision, Held]:
        """Who may see what, anew. Raises: every refusal of auth, and `_Cold`."""
        known = self._relations.peek(principal.subject, now)
        if known is None or not path_names_something(path):
            raise _Cold
        facts_held, facts = known
        relation = allow(principal, facts, endpoint.rule, path)
        calendar = self._reads.known_calendar(now)
        params = resolve(
            endpoint,
            path=path,
            query=parse_query(endpoint, query) if query else {},
            calendar=None if calendar is None else calendar[1],
            principal=principal,
            facts=facts,
        )
        held = None if params is None else self._reads.peek(read, params, now)
        if held is None:
            raise _Cold
        by_calendar = calendar is not None and any(parameter.default for parameter in endpoint.query)
        calendar_held = calendar[0] if calendar is not None and by_calendar else None
        return Decision(principal, relation, facts=facts_held, calendar=calendar_held, held=held), held

    def _messages(
        self,
        endpoint: Endpoint,
        method: str,
        decision: Decision,
        held: Held,
        if_none_match: bytes | None,
        accept_encoding: bytes | None,
        standing: Now,
        now: float,
    ) -> tuple[Message, Message]:
        prepared = prepare(held, accept_encoding)
        status, own, body = 200, prepared.full, prepared.body
        if if_none_match is not None and etag_matches(if_none_match.decode("latin-1"), prepared.etag):
            status, own, body = 304, prepared.unchanged, EMPTY
        elif method == "HEAD":
            body = EMPTY
        request_id = self._request_ids.next()
        headers = [*own, (b"massar-request-id", request_id), *standing.headers]
        if self._show_cache_status:
            age = max(0, int(now - held.entry.stored_at))
            headers += [(b"cache-status", b"massar; hit; detail=memory"), (b"age", b"%d" % age)]
        self._metrics.warm_hit(endpoint.path, method, status)
        kind = (endpoint.path, method, status, decision.principal.role, decision.relation, standing.epoch)
        said = self._words.get(kind)
        if said is None:
            said = self._said(endpoint, kind)
        self._access_log.write(request_id, said)
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


class _Cold(Exception):
    """Something is not in tier 1; whoever asked looks further."""
