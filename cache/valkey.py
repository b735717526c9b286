"""Tier 2: sealed entries and the generations of their tags in Valkey, for all workers of a site.

Invariant: whatever Valkey does (gone, hung, full, restarted, full of garbage), a caller waits at most one time-out
and gets `CacheUnavailable`; an older version never replaces a newer one; a generation never falls; a missing
generation means *unknown*, never zero, so that an evicted one hides entries instead of reviving them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from cache.cache_key import CacheKey, sealed_name
from cache.entries import Entry
from cache.generations import EVERYTHING
from cache.policy import GENERATION_LIFE_S

OPERATION_MAX_S = 0.1
TURN_WAIT_MAX_S = 0.05
CONNECTIONS_MAX = 32
FAILURES_MAX = 3
BREAKER_OPEN_S = 1.0
# Purges that Valkey has not heard yet; beyond this many tags one purge of everything replaces them.
OWED_MAX = 1024

_ORDER_DIGITS = 50
_GENERATION_DIGITS_MAX = 19
Answer = TypeVar("Answer")

# Decimal strings compare by length, then by digit: no float of Lua's ever holds a revision or an LSN.
_COMPARE = """
local function number(v) return type(v) == 'string' and string.match(v, '^%d+$') ~= nil end
local function above(a, b) if #a ~= #b then return #a > #b end return a > b end
local function raise(key, value, life_ms)
  local present = redis.call('MGET', key)[1]
  if number(present) and not above(value, present) then
    redis.call('PEXPIRE', key, life_ms)
  else
    redis.call('SET', key, value, 'PX', life_ms)
  end
end
"""
RAISE_SCRIPT = (
    _COMPARE
    + """
for i = 1, #KEYS do raise(KEYS[i], ARGV[i + 1], ARGV[1]) end
return #KEYS
"""
)
PUT_SCRIPT = (
    _COMPARE
    + """
local value, order, life_ms, generation_life_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
for i = 2, #KEYS do
  local present = redis.call('MGET', KEYS[i])[1]
  if number(present) and above(present, ARGV[i + 3]) then return 'purged' end
end
local present = redis.pcall('GETRANGE', KEYS[1], 0, #order - 1)
if number(present) and #present == #order and above(present, order) then return 'older' end
for i = 2, #KEYS do raise(KEYS[i], ARGV[i + 3], generation_life_ms) end
redis.call('SET', KEYS[1], value, 'PX', life_ms)
return 'stored'
"""
)
_SCRIPT_DIGESTS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()  # how Valkey names scripts
    for script in (RAISE_SCRIPT, PUT_SCRIPT)
}


class CacheUnavailable(Exception):
    """Tier 2 did not answer in time, or not at all; never leaves the package."""


class Put(Enum):
    """What became of an entry offered to tier 2."""

    STORED = b"stored"
    OLDER = b"older"  # a newer version is there
    PURGED = b"purged"  # a tag was purged after the entry's generations were read


class Found(msgspec.Struct, frozen=True):
    """One round trip's answer: the sealed body, its order, and each tag's generation (None: unknown)."""

    sealed: bytes | None
    order: bytes
    generations: tuple[int | None, ...]


class Breaker:
    """Stops asking a silent peer: opens after `failures_max` in a row, then lets one probe through a period."""

    def __init__(self, *, failures_max: int, open_s: float, monotonic: Callable[[], float]) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._monotonic = monotonic
        self._failures = 0
        self._closed_from_s = 0.0

    def admits(self) -> bool:
        """Whether to try now. While open, only the first caller of each period is the probe."""
        if self._failures < self._failures_max:
            return True
        now = self._monotonic()
        if now < self._closed_from_s:
            return False
        self._closed_from_s = now + self._open_s
        return True

    def succeeded(self) -> None:
        """The peer answered."""
        self._failures = 0

    def failed(self) -> None:
        """The peer was silent."""
        self._failures += 1
        self._closed_from_s = self._monotonic() + self._open_s


class ValkeyTier:
    """The site's shared tier. Names are keyed digests, bodies come sealed."""

    def __init__(
        self,
        url: str,
        *,
        name_secret: bytes,
        monotonic: Callable[[], float],
        operation_max_s: float = OPERATION_MAX_S,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._secret = name_secret
        self._operation_max_s = operation_max_s
        self._breaker = Breaker(failures_max=FAILURES_MAX, open_s=BREAKER_OPEN_S, monotonic=monotonic)
        self._owed: dict[str, int] = {}
        # The pool's own wait would count as silence of the peer; waiting for a turn is ours and is not.
        self._turns = asyncio.Semaphore(connections_max)
        # RESP2 and no driver line: a new connection costs no round trip. One deadline stands around each
        # operation (pool, connect, send, read together), so the library's own per-step time-outs stay out.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections_max,
            timeout=TURN_WAIT_MAX_S,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=operation_max_s,
            driver_info=None,
            protocol=2,
        )
        self._client = Redis(connection_pool=pool)

    async def get(self, key: CacheKey, tags: Sequence[str]) -> Found:
        """The sealed entry and the generations of `tags`, in one round trip. Raises `CacheUnavailable`."""
        await self._pay()  # an entry read before our own purges have arrived there could be one of them
        names = [key.sealed_name(self._secret), *[self._generation_name(tag) for tag in tags]]
        answers: list[bytes | None] = await self._bounded(lambda: self._mget(names))
        value, known = answers[0], tuple([_generation(raw) for raw in answers[1:]])
        if value is None or len(value) < _ORDER_DIGITS:
            return Found(sealed=value, order=b"", generations=known)
        return Found(sealed=value[_ORDER_DIGITS:], order=value[:_ORDER_DIGITS], generations=known)

    async def put(self, key: CacheKey, sealed: bytes, *, entry: Entry, life_s: float) -> Put:
        """Offer an entry, sealed under its `order`, for `life_s` seconds. Raises `CacheUnavailable`."""
        await self._pay()
        before = order(entry)
        names = [key.sealed_name(self._secret), *[self._generation_name(tag) for tag in entry.tags]]
        lives = [_milliseconds(life_s), _milliseconds(GENERATION_LIFE_S)]
        values = [before + sealed, before, *lives, *entry.generations]
        return Put(await self._bounded(lambda: self._script(PUT_SCRIPT, names, values)))

    async def drop(self, key: CacheKey) -> None:
        """Remove an entry that does not open. Raises `CacheUnavailable`."""
        await self._bounded(lambda: self._client.delete(key.sealed_name(self._secret)))

    async def raise_generations(self, tags: Sequence[str], value: int) -> None:
        """Raise the tags' generations to `value`; what Valkey cannot hear now, it hears before it is read again.

        Raises `CacheUnavailable`.
        """
        for tag in tags:
            self._owed[tag] = max(value, self._owed.get(tag, 0))
        if len(self._owed) > OWED_MAX:
            self._owed = {EVERYTHING: max(self._owed.values())}
        await self._pay()

    async def note_heard(self, life_s: float) -> None:
        """Note for `life_s` seconds that somebody here hears every purge. Raises `CacheUnavailable`."""
        await self._bounded(lambda: self._client.set(self._heard_name(), b"1", px=_milliseconds(life_s)))

    async def was_heard(self) -> bool:
        """Whether somebody here heard every purge until a moment ago. Raises `CacheUnavailable`."""
        return bool(await self._bounded(lambda: self._client.exists(self._heard_name())))

    def _heard_name(self) -> bytes:
        return sealed_name(self._secret, "heard", "")

    async def aclose(self) -> None:
        """Close the connections; a peer that is gone or hung changes nothing."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose(close_connection_pool=True)

    async def _pay(self) -> None:
        if not self._owed:
            return
        paid = dict(self._owed)
        names = [self._generation_name(tag) for tag in paid]
        values = [_milliseconds(GENERATION_LIFE_S), *paid.values()]
        await self._bounded(lambda: self._script(RAISE_SCRIPT, names, values))
        for tag, value in paid.items():
            if self._owed.get(tag) == value:
                del self._owed[tag]

    async def _mget(self, names: list[bytes]) -> Any:
        return await self._client.mget(names)

    async def _script(self, script: str, names: list[bytes], values: list[Any]) -> Any:
        try:
            return await self._client.evalsha(_SCRIPT_DIGESTS[script], len(names), *names, *values)
        except NoScriptError:  # Valkey was restarted, or never saw it
            return await self._client.eval(script, len(names), *names, *values)

    async def _bounded(self, operation: Callable[[], Awaitable[Answer]]) -> Answer:
        if not self._breaker.admits():
            raise CacheUnavailable("not asked: it was silent a moment ago")
        await self._take_turn()
        try:
            async with asyncio.timeout(self._operation_max_s):
                answer = await operation()
        except ResponseError as error:  # a refusal (out of memory, loading) is an answer: the peer is alive
            self._breaker.succeeded()
            raise CacheUnavailable(str(error)) from error
        except Exception as error:  # whatever a client raises, the tier is away
            self._breaker.failed()
            raise CacheUnavailable(type(error).__name__) from error
        finally:
            self._turns.release()
        self._breaker.succeeded()
        return answer

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(TURN_WAIT_MAX_S if self._turns.locked() else None):
                await self._turns.acquire()
        except TimeoutError:
            raise CacheUnavailable("all connections are busy") from None

    def _generation_name(self, tag: str) -> bytes:
        return sealed_name(self._secret, "generation", tag)


def order(entry: Entry) -> bytes:
    """The entry's version as digits of fixed width: they compare as (epoch, timeline, LSN) does."""
    timeline, lsn = entry.position
    written = b"%020d%010d%020d" % (entry.epoch, timeline, lsn)
    if len(written) != _ORDER_DIGITS:
        raise ValueError("an epoch or position is out of range")
    return written


def _generation(raw: bytes | None) -> int | None:
    """A stored generation; None, which hides the entry, for whatever is not a plain number."""
    return int(raw) if raw is not None and len(raw) <= _GENERATION_DIGITS_MAX and raw.isdigit() else None


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
