"""Stored responses in Valkey, for every process that is pointed at it.

Of each target one hash with its generation and the heads, named by a digest; each body is a string of its own, which
never changes. A generation of everything stands beside those of the targets. Valkey's own clock ends what nobody could use any more, its memory policy what there is no room for.

Invariant: Valkey away reads as nothing stored; a head without its body is no answer; what was asked for before an
invalidation is not kept after it, whoever asked and whoever invalidated; an invalidation that Valkey does not hear is
owed, and nothing of its target read here before it is paid.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence

import msgspec

from cache.bounded_valkey import BoundedValkey, CacheUnavailable, Question, Script
from cache.http.age import Manner, freshness_left
from cache.http.messages import Stored
from cache.http.shelf import VARIANTS_MAX, Away, Held
from cache.sealing import SealBroken, Sealer

# How long after its freshness a response may still be validated, or stand in for an error.
KEPT_STALE_S = 86_400.0
KEPT_S_MAX = 30 * 86_400.0
GENERATION_S = 3_600.0
# How long an answer may be on its way and still be kept, of a target that was not there.
ASKED_S_MAX = 300.0
# Beyond as many unheard invalidations everything is invalidated instead.
OWED_MAX = 4_096
# A connection is shared, and nobody waits long for what is behind a body.
VALKEY_BODY_BYTES_MAX = 1024 * 1024
_GENERATION = b"generation"

# A target that is not there gets a generation, so that its being evicted shows.
_HELD = Script("""
local found = redis.call('HGETALL', KEYS[1])
local known = false
for i = 1, #found, 2 do known = known or found[i] == 'generation' end
if not known then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'generation', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {'generation', ARGV[1]}
end
return found
""")
_PUT = Script("""
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 0 end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[6]) and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
return 1
""")
_FRESHEN = Script("""
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
""")
_DROP = Script("""
for i = 1, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
  redis.call('UNLINK', KEYS[i + 1])
end
return 1
""")
_INVALIDATE = Script("""
redis.call('HSET', KEYS[1], 'generation', ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
""")


class _Head(msgspec.Struct, array_like=True):
    generation: str
    stored: Stored


class ValkeyShelf:
    """Shares stored responses; `sealer`, where there is one, lets nobody who reads Valkey read them."""

    body_bytes_max = VALKEY_BODY_BYTES_MAX
    copies = True

    def __init__(
        self,
        valkey: BoundedValkey,
        *,
        manner: Manner,
        clock: Callable[[], float],
        sealer: Sealer | None = None,
        name_secret: bytes = b"",
        on_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._valkey = valkey
        self._manner = manner
        self._clock = clock
        self._sealer = sealer
        self._secret = name_secret
        self._on_away = on_away
        self._owed: dict[str, None] = {}
        self._everything_owed = False
        self._decode = msgspec.msgpack.Decoder(_Head).decode

    async def held(self, target: str) -> Held:
        """Everything stored of a target; what is older than its last invalidation is `doubted`."""
        fresh = secrets.token_hex(8)
        if not await self._pay(target):
            return Held(fresh)
        everything, of_target = self._everything(), [self._name(target)]
        try:
            of_all, pairs = await asyncio.gather(
                self._valkey.ask(
                    Question(
                        everything, ("SET", everything, fresh, "NX", "GET", "PX", _milliseconds(KEPT_S_MAX))
                    )
                ),
                self._valkey.run(_HELD, of_target, [fresh, _milliseconds(ASKED_S_MAX)]),
            )
        except CacheUnavailable:
            self._on_away()
            return Held(fresh)
        found: dict[bytes, bytes] = dict(zip(pairs[::2], pairs[1::2], strict=True))
        own = found.pop(_GENERATION, b"").decode("ascii", "replace")
        generation = f"{fresh if of_all is None else of_all.decode('ascii', 'replace')}.{own}"
        heads = (self._head(target, id_, raw, generation) for id_, raw in found.items())
        return Held(generation, tuple(one for one in heads if one is not None))

    async def body(self, target: str, id_: str) -> bytes | None:
        """The bytes held of a stored response, None when they are gone. Raises `Away`."""
        name = self._name(target, id_)
        try:
            found = await self._valkey.ask(Question(name, ("GET", name)))
        except CacheUnavailable as error:
            self._on_away()
            raise Away from error
        return None if found is None else self._opened(found, name)

    async def put(
        self, target: str, stored: Stored, body: bytes, *, since: Held, replacing: Sequence[str] = ()
    ) -> bool:
        """Keep one in the place of others, unless the target was invalidated since it was looked up; whether it is kept."""
        left = [one for one in since.stored if one.id not in replacing]
        await self.drop(target, [*replacing, *(one.id for one in oldest_beyond(left, VARIANTS_MAX - 1))])
        names = [self._name(target), self._name(target, stored.id)]
        head = self._sealed(msgspec.msgpack.encode(_Head(since.generation, stored)), names[0])
        sealed, life_ms = self._sealed(body, names[1]), self._life_ms(stored)
        own = since.generation.rpartition(".")[2]
        return await self._told(_PUT, names, [own, stored.id, head, sealed, life_ms, VARIANTS_MAX])

    async def freshen(self, target: str, stored: Stored, *, generation: str) -> None:
        """Replace the head of one that is still there."""
        names = [self._name(target), self._name(target, stored.id)]
        head = self._sealed(msgspec.msgpack.encode(_Head(generation, stored)), names[0])
        await self._told(_FRESHEN, names, [stored.id, head, self._life_ms(stored)])

    async def drop(self, target: str, ids: Sequence[str]) -> None:
        """Forget these."""
        if ids:
            names = [self._name(target), *(self._name(target, id_) for id_ in ids)]
            await self._told(_DROP, names, list(ids))

    async def invalidate(self, target: str) -> None:
        """Have everything of a target validated before its next use (RFC 9111 §4.4)."""
        self._owed[target] = None
        if len(self._owed) > OWED_MAX:
            self._owed, self._everything_owed = {}, True
        await self._pay(target)

    async def _pay(self, target: str) -> bool:
        """Invalidate what is owed of this target, and one other for each time that is asked; no when that fails."""
        if self._everything_owed:
            name = self._everything()
            try:
                await self._valkey.ask(
                    Question(name, ("SET", name, secrets.token_hex(8), "PX", _milliseconds(KEPT_S_MAX)))
                )
            except CacheUnavailable:
                self._on_away()
                return False
            self._everything_owed = False
        if not self._owed:
            return True
        others = (one for one in self._owed if one != target)
        for one in filter(None, (target if target in self._owed else None, next(others, None))):
            values = [secrets.token_hex(8), _milliseconds(GENERATION_S)]
            if await self._told(_INVALIDATE, [self._name(one)], values):
                self._owed.pop(one, None)
        return target not in self._owed

    async def aclose(self) -> None:
        """Close the connections."""
        await self._valkey.aclose()

    async def _told(self, script: Script, names: Sequence[bytes], values: Sequence[object]) -> bool:
        """Whether the script was run and did it."""
        try:
            return bool(await self._valkey.run(script, names, values))
        except CacheUnavailable:
            self._on_away()
            return False

    def _head(self, target: str, id_: bytes, raw: bytes, generation: str) -> Stored | None:
        opened = self._opened(raw, self._name(target))
        try:
            head = self._decode(opened) if opened is not None else None
        except msgspec.MsgspecError:
            head = None
        if head is None or head.stored.id.encode() != id_:
            return None
        doubted = head.stored.doubted or head.generation != generation
        return msgspec.structs.replace(head.stored, doubted=doubted)

    def _name(self, target: str, id_: str = "") -> bytes:
        """A name that shows nothing of the target; of one target all names are in one slot of a cluster."""
        digest = hashlib.blake2b(target.encode(), digest_size=20, key=self._secret).hexdigest()
        return f"http:{{{digest}}}:{id_}".encode()

    def _everything(self) -> bytes:
        digest = hashlib.blake2b(b"", digest_size=20, key=self._secret).hexdigest()
        return f"http:{{{digest}}}:everything".encode()

    def _sealed(self, plain: bytes, name: bytes) -> bytes:
        return self._sealer.seal(plain, name) if self._sealer else plain

    def _opened(self, sealed: bytes, name: bytes) -> bytes | None:
        try:
            return self._sealer.open(sealed, name) if self._sealer else sealed
        except SealBroken:
            return None

    def _life_ms(self, stored: Stored) -> int:
        left = max(0.0, freshness_left(stored, self._clock(), self._manner))
        return _milliseconds(min(left + KEPT_STALE_S, KEPT_S_MAX))


def oldest_beyond(stored: Sequence[Stored], most: int) -> list[Stored]:
    """Those that came first, so many that `most` are left."""
    by_age = sorted(stored, key=lambda one: one.received_at)
    return by_age[: max(0, len(by_age) - most)]


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
