"""Turns at filling one key, for all workers of a site: who has the lease fetches, the others wait for what comes of it.

Invariant: a lease decides who asks, never what is shown. Who does not hear from Valkey has his turn at once; a holder
that dies holds the others up for `LEASE_S` at most; nobody waits longer than he was told to and one question to Valkey takes,
nor for what was asked before he heard of a purge or an epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from cache.bounded_valkey import BoundedValkey, CacheUnavailable, Script
from cache.cache_key import CacheKey, sealed_name

LEASE_S = 1.0
RENEW_S = 0.3
# A fetch ends before that.
RENEWALS_MAX = 20
# How long those who wait may hear that it failed, or that everybody has to ask for himself.
OUTCOME_S = 0.25
POLL_S, POLL_MAX_S = 0.005, 0.04
RETRY_AFTER_MAX_S = 3_600.0
# What is said of the worker that asked, not of what it asked for.
OWN_SLUGS = frozenset({"overloaded"})
_TAKEN, _OUTCOME = b"h", b"o"

# Only the holder prolongs or ends a lease. An outcome is for those who waited for it; who comes later takes its place.
_TAKE = Script("""
local present = redis.call('GET', KEYS[1])
if present and (string.sub(present, 1, 1) == 'h' or ARGV[3] == '1') then return present end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
""")
_RENEW = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
""")
_END = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
return 1
""")


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """What a worker has heard when it asks: the generations of the key's tags, in their order, and the epoch."""

    generations: tuple[int, ...] = ()
    epoch: int = 0

    def lacks(self, other: Heard) -> bool:
        """Whether the other one has heard more, so that what was asked with this is not what he asks for."""
        newer = any(theirs > own for own, theirs in zip(self.generations, other.generations, strict=False))
        return newer or other.epoch > self.epoch or len(other.generations) != len(self.generations)


class Taken(msgspec.Struct, frozen=True):
    """Somebody fetches."""

    token: str
    heard: Heard


class Outcome(msgspec.Struct, frozen=True):
    """What came of it: an error's slug and what else callers look at, or something that is for nobody else."""

    heard: Heard
    slug: str | None = None
    retry_after_s: Annotated[float, msgspec.Meta(ge=0, le=RETRY_AFTER_MAX_S)] | None = None
    datacenters_away: bool = False


class TurnFailed(Exception):
    """The fetch of the worker that had the lease failed; carries that error's slug, and what else callers look at."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("the fetch of another worker failed")
        self.slug = outcome.slug
        self.retry_after_s = outcome.retry_after_s
        self.datacenters_away = outcome.datacenters_away


_encode = msgspec.msgpack.encode
_decode_taken = msgspec.msgpack.Decoder(Taken).decode
_decode_outcome = msgspec.msgpack.Decoder(Outcome).decode


class Lease:
    """One turn; `held` tells whether anybody waits for its end."""

    def __init__(self, leases: Leases | None = None, name: bytes = b"", taken: Taken | None = None) -> None:
        self._leases = leases
        self._name = name
        self._taken = taken
        self._renewing = None if leases is None or taken is None else _Renewing(leases, name, taken)

    @property
    def held(self) -> bool:
        """Whether it is to be ended yet."""
        return self._taken is not None

    def handed_on(self) -> Lease:
        """The same turn for who sees to its end from now on; this one is over."""
        other = Lease()
        other._leases, other._name, other._taken, other._renewing = (
            self._leases,
            self._name,
            self._taken,
            self._renewing,
        )
        self._taken = self._renewing = None
        return other

    def abandon(self) -> None:
        """Let it end by itself."""
        self._taken = None
        if self._renewing is not None:
            self._renewing.cancel()

    async def done(self) -> None:
        """What was fetched can be found now, or nothing was: the next one has his turn."""
        await self._end(b"")

    async def each(self) -> None:
        """What was fetched is for nobody else: those who wait ask for themselves."""
        if self._taken is not None:
            await self._end(_OUTCOME + _encode(Outcome(self._taken.heard)))

    async def failed(self, error: BaseException) -> None:
        """Have those who wait fail as well, and not ask once more; unless the error is this worker's own."""
        slug = getattr(error, "slug", None)
        if self._taken is None or not isinstance(slug, str) or slug in OWN_SLUGS:
            await self._end(b"")
            return
        away = getattr(error, "datacenters_away", False) is True
        wait_s = getattr(error, "retry_after_s", None)
        bounded = None if wait_s is None else min(max(0.0, wait_s), RETRY_AFTER_MAX_S)
        told = Outcome(self._taken.heard, slug, bounded, away)
        await self._end(_OUTCOME + _encode(told))

    async def _end(self, left: bytes) -> None:
        taken, self._taken = self._taken, None
        if self._renewing is not None:
            self._renewing.cancel()
        if self._leases is not None and taken is not None:
            await self._leases.end(self._name, taken, left)


class _Renewing:
    """Prolongs a lease every RENEW_S; nearly every fetch ends before the first time, so until then it is only a timer."""

    def __init__(self, leases: Leases, name: bytes, taken: Taken) -> None:
        self._leases = leases
        self._name = name
        self._taken = taken
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._begin)

    def cancel(self) -> None:
        """Do so no more."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        for _ in range(RENEWALS_MAX):
            await self._leases.renew(self._name, self._taken)
            await asyncio.sleep(RENEW_S)


class Leases:
    """The leases of one site's Valkey."""

    def __init__(self, valkey: BoundedValkey, *, name_secret: bytes) -> None:
        self._valkey = valkey
        self._secret = name_secret

    async def turn(self, key: CacheKey, heard: Heard, *, within_s: float) -> Lease:
        """The turn at filling a key. Raises `TurnFailed`; `TimeoutError` when it has not come within `within_s`."""
        name = sealed_name(self._secret, "lease", key.text)
        own, waited, poll_s = Taken(secrets.token_hex(8), heard), False, POLL_S
        clock = asyncio.get_running_loop().time
        ends_at = clock() + within_s
        while True:
            try:
                present = await self._taken(name, own, waited=waited)
            except (CacheUnavailable, msgspec.MsgspecError, UnicodeDecodeError):
                present = None  # if it was taken all the same, it is ended
            if clock() >= ends_at:
                # The loop stood still, or Valkey was slow: what is begun now would be cut off.
                if present is None:
                    await self.end(name, own, b"")
                raise TimeoutError("the turn did not come in time")
            if present is None:
                return Lease(self, name, own)
            if present.heard.lacks(heard):
                return Lease()
            if isinstance(present, Outcome):
                if present.slug is None:
                    return Lease()
                raise TurnFailed(present)
            waited = True
            await asyncio.sleep(min(poll_s, max(0.0, ends_at - clock())))
            poll_s = min(POLL_MAX_S, poll_s * 1.5)

    async def _taken(self, name: bytes, own: Taken, *, waited: bool) -> Taken | Outcome | None:
        """What is there; None when that is our own now. Raises `CacheUnavailable`, or what decoding does."""
        values: Sequence[Any] = [_TAKEN + _encode(own), _milliseconds(LEASE_S), int(waited)]
        present = await self._valkey.run(_TAKE, [name], values)
        if type(present) is not bytes:
            raise CacheUnavailable("an answer to another question")
        if not present:
            return None
        return (_decode_taken if present[:1] == _TAKEN else _decode_outcome)(present[1:])

    async def renew(self, name: bytes, taken: Taken) -> None:
        """Prolong a lease that is still held."""
        with contextlib.suppress(CacheUnavailable):
            await self._valkey.run(_RENEW, [name], [_TAKEN + _encode(taken), _milliseconds(LEASE_S)])

    async def end(self, name: bytes, taken: Taken, left: bytes) -> None:
        """End a lease that is still held, leaving word of what came of it."""
        with contextlib.suppress(CacheUnavailable):
            await self._valkey.run(_END, [name], [_TAKEN + _encode(taken), _milliseconds(OUTCOME_S), left])


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
