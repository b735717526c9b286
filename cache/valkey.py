"""Tier 2: sealed entries and the generations of their tags in Valkey, for all workers of a site.

Invariant: an older version never replaces a newer one; a generation never falls; a missing generation means
*unknown*, never zero, so that an evicted one hides entries instead of reviving them.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from cache.bounded_valkey import OPERATION_MAX_S, BoundedValkey, Question, Script
from cache.cache_key import CacheKey, sealed_name
from cache.entries import Entry
from cache.generations import EVERYTHING
from cache.leases import Leases
from cache.policy import GENERATION_LIFE_S

# Purges that Valkey has not heard yet; beyond this many tags one purge of everything replaces them.
GENERATION_NAMES_MAX = 16_384
OWED_MAX = 1024
PAID_AT_ONCE_MAX = 256
# How long what was purged is told again to whoever answers in Valkey's place.
RECENT_S = 60.0

_ORDER_DIGITS = 50
_GENERATION_DIGITS_MAX = 19

# Decimal strings compare by length, then by digit: no float of Lua's ever holds a revision or an LSN.
_NUMBERS = """
local function number(v) return type(v) == 'string' and string.match(v, '^%d+$') ~= nil end
local function above(a, b) if #a ~= #b then return #a > #b end return a > b end
"""
_RAISING = """
local function raise(name, value, life_ms)
  local present = redis.call('MGET', name)[1]
  if not number(present) or above(value, present) then
    redis.call('SET', name, value, 'PX', life_ms)
    return 'raised'
  end
  redis.call('PEXPIRE', name, life_ms)
  return above(present, value) and 'higher' or 'same'
end
"""
_PUTTING = """
local function put(name, value, order, life_ms)
  local present = redis.pcall('GETRANGE', name, 0, #order - 1)
  if number(present) and #present == #order and above(present, order) then return 'older' end
  redis.call('SET', name, value, 'PX', life_ms)
  return 'stored'
end
"""
_RAISE = Script(_NUMBERS + _RAISING + "return raise(KEYS[1], ARGV[1], ARGV[2])")
# In a cluster, an entry and the generations of its tags are kept in different places: one name a script. An entry put
# beside a purge that its generations do not name yet is hidden by them, as everybody compares them who reads it.
_PUT = Script(_NUMBERS + _PUTTING + "return put(KEYS[1], ARGV[1], ARGV[2], ARGV[3])")
# Elsewhere both at once: KEYS are the entry's name and those of its tags' generations. What is refused where memory is full is
# the first write of a script and none that follows it, so the entry is written first.
_RAISE_AND_PUT = Script(
    _NUMBERS
    + _RAISING
    + _PUTTING
    + """
local purged = false
for at = 2, #KEYS do
  local present = redis.call('MGET', KEYS[at])[1]
  purged = purged or (number(present) and above(present, ARGV[at + 3]))
end
local said = purged and 'purged' or put(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
for at = 2, #KEYS do raise(KEYS[at], ARGV[at + 3], ARGV[4]) end
return said
"""
)


class Put(Enum):
    """What became of an entry offered to tier 2."""

    STORED = b"stored"
    OLDER = b"older"  # a newer version is there
    PURGED = (
        b"purged"  # a tag was purged after the entry's generations were read: not stored, or hidden by them
    )


class Found(msgspec.Struct, frozen=True):
    """One round trip's answer: the sealed body, its order, and each tag's generation (None: unknown)."""

    sealed: bytes | None
    order: bytes
    generations: tuple[int | None, ...]


class ValkeyTier:
    """The site's shared tier. Names are keyed digests, bodies come sealed."""

    def __init__(
        self,
        url: str,
        *,
        name_secret: bytes,
        monotonic: Callable[[], float],
        operation_max_s: float = OPERATION_MAX_S,
    ) -> None:
        self._secret = name_secret
        # Some tags are in every read: their digests are kept.
        self._generation_name = functools.lru_cache(GENERATION_NAMES_MAX)(
            functools.partial(sealed_name, name_secret, "generation")
        )
        self._monotonic = monotonic
        self._owed: dict[str, int] = {}
        self._recent: dict[str, tuple[int, float]] = {}
        self._valkey = BoundedValkey(url, monotonic=monotonic, operation_max_s=operation_max_s)
        self._connections = 0
        self._paying: asyncio.Task[None] | None = None
        self.leases = Leases(self._valkey, name_secret=name_secret)

    async def get(self, key: CacheKey, tags: Sequence[str]) -> Found:
        """The sealed entry and the generations of `tags`, in one round trip. Raises `CacheUnavailable`."""
        await self._pay()  # an entry read before our own purges have arrived there could be one of them
        names = [key.sealed_name(self._secret), *[self._generation_name(tag) for tag in tags]]
        answers = await self._valkey.values(names)
        value, known = answers[0], tuple([_generation(raw) for raw in answers[1:]])
        if value is None or len(value) < _ORDER_DIGITS:
            return Found(sealed=value, order=b"", generations=known)
        return Found(sealed=value[_ORDER_DIGITS:], order=value[:_ORDER_DIGITS], generations=known)

    async def put(self, key: CacheKey, sealed: bytes, *, entry: Entry, life_s: float) -> Put:
        """Offer an entry, sealed under its `order`, for `life_s` seconds. Raises `CacheUnavailable`."""
        await self._pay()
        before, generation_life_ms = order(entry), _milliseconds(GENERATION_LIFE_S)
        name, values = key.sealed_name(self._secret), [before + sealed, before, _milliseconds(life_s)]
        if len(entry.tags) != len(entry.generations):
            raise ValueError("tags and generations differ in number")
        tags = [self._generation_name(tag) for tag in entry.tags]
        if not self._valkey.parted:
            more = [generation_life_ms, *entry.generations]
            return Put(await self._valkey.run(_RAISE_AND_PUT, [name, *tags], [*values, *more]))
        raised = [
            ([tag], [generation, generation_life_ms])
            for tag, generation in zip(tags, entry.generations, strict=True)
        ]
        present = await self._valkey.run_all(_RAISE, raised)
        if b"higher" in present:
            return Put.PURGED
        return Put(await self._valkey.run(_PUT, [name], values))

    async def drop(self, key: CacheKey) -> None:
        """Remove an entry that does not open. Raises `CacheUnavailable`."""
        name = key.sealed_name(self._secret)
        await self._valkey.ask(Question(name, ("UNLINK", name)))

    async def raise_generations(self, tags: Sequence[str], value: int) -> None:
        """Raise the tags' generations to `value`; what Valkey cannot hear now, it hears before it is read again.

        Raises `CacheUnavailable`.
        """
        now, told = self._monotonic(), dict.fromkeys(tags, value)
        for tag in told:
            known, _ = self._recent.pop(tag, (0, 0.0))
            self._recent[tag] = (max(value, known), now)
        self._forget_old(now)
        try:
            await self._tell(told)
        except BaseException:
            self._owe(told)
            raise

    async def generation(self, tag: str) -> int | None:
        """The generation of a tag, None where it is unknown. Raises `CacheUnavailable`."""
        return _generation((await self._valkey.values([self._generation_name(tag)]))[0])

    async def note_heard(self, life_s: float) -> None:
        """Note for `life_s` seconds that somebody here hears every purge, and has told of it. Raises `CacheUnavailable`."""
        await self._pay()
        name = self._heard_name()
        await self._valkey.ask(Question(name, ("SET", name, b"1", "PX", _milliseconds(life_s))))

    async def was_heard(self) -> bool:
        """Whether somebody here heard every purge until a moment ago. Raises `CacheUnavailable`."""
        name = self._heard_name()
        return bool(await self._valkey.ask(Question(name, ("EXISTS", name))) == 1)

    def _heard_name(self) -> bytes:
        return sealed_name(self._secret, "heard", "")

    async def aclose(self) -> None:
        """Close the connections; a peer that is gone or hung changes nothing."""
        if self._paying is not None:
            self._paying.cancel()
            await asyncio.wait([self._paying])
        await self._valkey.aclose()

    async def _pay(self) -> None:
        if self._connections != self._valkey.connections:
            # Who answers now may be a replica that had not heard all of it yet, or one that was put back.
            self._connections = self._valkey.connections
            self._forget_old(self._monotonic())
            self._owe({tag: value for tag, (value, _) in self._recent.items()})
        if not self._owed:
            return
        if self._paying is None:
            self._paying = asyncio.create_task(self._paid())
            self._paying.add_done_callback(self._stopped_paying)
        await asyncio.shield(self._paying)

    async def _paid(self) -> None:
        """Tell Valkey what it has missed until now; whoever comes meanwhile waits for the same and no longer."""
        owed = list(self._owed.items())
        for first in range(0, len(owed), PAID_AT_ONCE_MAX):
            await self._tell(dict(owed[first : first + PAID_AT_ONCE_MAX]))

    async def _tell(self, told: dict[str, int]) -> None:
        life_ms = _milliseconds(GENERATION_LIFE_S)
        await self._valkey.run_all(
            _RAISE, [([self._generation_name(tag)], [value, life_ms]) for tag, value in told.items()]
        )
        for tag, value in told.items():
            if self._owed.get(tag, math.inf) <= value:
                del self._owed[tag]

    def _owe(self, missed: dict[str, int]) -> None:
        for tag, value in missed.items():
            self._owed[tag] = max(value, self._owed.get(tag, 0))
        if len(self._owed) > OWED_MAX:
            self._owed = {EVERYTHING: max(self._owed.values())}

    def _stopped_paying(self, task: asyncio.Task[None]) -> None:
        self._paying = None
        if not task.cancelled():
            task.exception()  # marks it as seen when nobody waits any more

    def _forget_old(self, now: float) -> None:
        for tag, (value, at) in list(self._recent.items()):
            if now - at <= RECENT_S and len(self._recent) <= OWED_MAX:
                break
            del self._recent[tag]
            if now - at <= RECENT_S:  # too many to name
                self._recent = {EVERYTHING: (max(value, *(one for one, _ in self._recent.values())), now)}
                break


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
