"""What a subject is to whom, read through cache and datacenters, handed to auth as plain facts.

Invariant: facts are at most a minute old while any datacenter answers; without facts nobody is let in. Auth fails
closed: nothing to go by is 503 `relations-unavailable`, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec

from auth.principal import Facts
from cache.asking import Fetch
from cache.cache_key import CacheKey, key_text
from cache.entries import Entry
from cache.memory import Held
from cache.policy import RELATIONS
from cache.reading import Fetched
from cache.store import Cache
from datacenters.attempts import Answer
from datacenters.forwarding import Forwarder
from datacenters.in_flight import Priority

_VIEW = "gateway"
_decode = msgspec.json.Decoder(Facts).decode
_encode = msgspec.json.Encoder().encode


class RelationsUnavailable(Exception):
    """Nobody can say now what the caller is to this pupil."""

    slug: ClassVar[str] = "relations-unavailable"
    retry_after_s: ClassVar[float] = 2.0


class Relations:
    """Facts by subject; decoded once per cache entry."""

    def __init__(self, cache: Cache, forwarder: Forwarder, *, clock: Callable[[], float]) -> None:
        self._cache = cache
        self._forwarder = forwarder
        self._clock = clock
        self._timeline = 0

    def peek(self, subject: str, now: float) -> tuple[Held, Facts] | None:
        """The entry and its facts if this process may go by what it holds, without waiting."""
        held = self._cache.peek(key_text(_resource(subject), _VIEW), now)
        if held is None:
            return None
        if now >= held.ahead_at:
            fetch = self._fetch(subject, ahead=True)
            self._cache.ahead(held, _key(subject), policy=RELATIONS, tags=_tags(subject), fetch=fetch)
        facts = held.prepared
        if not isinstance(facts, Facts):
            facts = held.prepared = _decode(held.entry.body)
        return held, facts

    async def facts(self, subject: str) -> Facts:
        """The facts, fetched when need be. Raises: RelationsUnavailable."""
        known = self.peek(subject, self._clock())
        if known is not None:
            return known[1]
        try:
            reading = await self._cache.read(
                _key(subject), policy=RELATIONS, tags=_tags(subject), fetch=self._fetch(subject)
            )
        except RelationsUnavailable:
            raise
        except Exception as error:
            raise RelationsUnavailable from error
        return _decode(reading.entry.body)

    def _fetch(self, subject: str, *, ahead: bool = False) -> Fetch:
        """`ahead`: nobody waits for it, and that there are none has to take the place of those that are held."""
        priority = Priority.HEDGE if ahead else Priority.RELATION

        async def fetch(_previous: Entry | None) -> Fetched:
            answer = await self._forwarder.read(
                f"/v1/people/{subject}/relations?view=gateway", priority=priority
            )
            if not self._recent(answer):
                raise RelationsUnavailable
            if answer.status == 404:
                body = _encode(Facts(subject=subject, generation=0))
            elif answer.status == 200:
                body = _encode(_checked(answer.body, subject))
            else:
                raise RelationsUnavailable
            return Fetched(
                body=body,
                epoch=answer.epoch,
                position=answer.position,
                cacheable=(ahead or answer.status == 200) and not answer.from_standby,
            )

        return fetch

    def _recent(self, answer: Answer) -> bool:
        """Whether the answer may say who is related to whom.

        A standby is asked only while the active datacenter is away, so its age has the bound of what this site
        remembers. One without an age has just been promoted, if its timeline is new; else nobody knows its age.
        """
        timeline = answer.position[0]
        if not answer.from_standby:
            self._timeline = max(self._timeline, timeline)
            return True
        if answer.data_age_s is None:
            return timeline > self._timeline
        return answer.data_age_s <= RELATIONS.survival_s


def _tags(subject: str) -> tuple[str, ...]:
    return (f"relations:{subject}",)


def _resource(subject: str) -> str:
    return f"people/{subject}/relations"


def _key(subject: str) -> CacheKey:
    return CacheKey(resource=_resource(subject), view=_VIEW)


def _checked(body: bytes, subject: str) -> Facts:
    try:
        facts = _decode(body)
    except msgspec.DecodeError:
        raise RelationsUnavailable from None
    if facts.subject != subject:
        raise RelationsUnavailable
    return facts
