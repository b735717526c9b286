"""What is asked of every server of a comparison, and what our aims are.

Invariant: within a scenario every server gets the same requests, but for the entity tags, which each names itself; the
first lane is ours, and an aim is the least that its throughput is to be, as a multiple of another lane's.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from bench.peers import http2, mixing, setups
from bench.peers.people import Pupil

MASSAR, MASSAR_VALKEY, MASSAR_MISS, MASSAR_MIX = "massar", "massar-valkey", "massar-miss", "massar-mix"
MANY_TOKENS = 200_000
# More than any server verifies in the three loads of a block, so that none of them sees a token twice.
FRESH_TOKENS_PER_S = 30_000
# Named in titles, so no option changes them.
_H2_CONNECTIONS = 64
_MISSES_AT_ONCE = 32
_SHUFFLED_BY = 20_261_122


class Lane(msgspec.Struct, frozen=True):
    """One server as it is asked; `conditional`: with its own entity tag, so that the answer is 304."""

    server: str
    title: str
    aim: float | None = None
    conditional: bool = False

    @property
    def name(self) -> str:
        """Unique within a scenario."""
        return f"{self.server}-conditional" if self.conditional else self.server

    @property
    def status(self) -> int:
        """Of every answer."""
        return 304 if self.conditional else 200


class Scenario(msgspec.Struct, frozen=True):
    """`tokens` tells how many; `fresh` that each round gets new ones, so many for each second of a load.

    `connections` are open at once where it is given. `mixed`: the tokens are drawn by Zipf's law and some answers change.
    """

    name: str
    title: str
    lanes: Sequence[Lane]
    tokens: int = 1_000
    large: bool = False
    fresh: bool = False
    connections: int | None = None
    mixed: bool = False

    def asked(self, tokens: Sequence[tuple[Pupil, str]]) -> list[tuple[Pupil, str]]:
        """Who asks for what, of those who have `tokens`."""
        return mixing.mixed(tokens) if self.mixed else list(tokens)


def _peer(server: str, aim: float | None = None, *, conditional: bool = False) -> Lane:
    return Lane(server, setups.TITLES[server], aim, conditional)


_OURS = Lane(MASSAR, "massar-gateway")
_CACHING = (
    _peer(setups.NGINX),
    _peer(setups.NGINX_ASKING),
    _peer(setups.ENVOY),
    _peer(setups.ENVOY_CHECKING),
    _peer(setups.HAPROXY),
    _peer(setups.FASTAPI),
    _peer(setups.FASTAPI_MEMO),
)
_AIMS = {
    setups.NGINX: 1.0,
    setups.ENVOY: 1.2,
    setups.HAPROXY: 3.0,
    setups.FASTAPI: 15.0,
    setups.FASTAPI_MEMO: 5.0,
}
# The aims of a warm read hold for however many people.
_WARM = [msgspec.structs.replace(lane, aim=_AIMS.get(lane.server)) for lane in _CACHING]
_MEMOS = {setups.NGINX, setups.ENVOY, setups.HAPROXY, setups.FASTAPI_MEMO}

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="warm",
            title="warm read of 1.4 KB, 1,000 pupils",
            lanes=(_OURS, *_WARM),
        ),
        Scenario(
            name="many-tokens",
            title="warm read of 1.4 KB, 200,000 tokens of 1,000 pupils",
            tokens=MANY_TOKENS,
            lanes=(_OURS, *(lane for lane in _WARM if lane.server in _MEMOS)),
        ),
        Scenario(
            name="conditional",
            title="If-None-Match of what has not changed, 1,000 pupils",
            lanes=(
                Lane(MASSAR, "massar-gateway", conditional=True),
                Lane(MASSAR, "massar-gateway, the whole answer", aim=1.0),
                # HAProxy's 304 carries a Content-Length, after which wrk waits for a body: it cannot be asked.
                _peer(setups.NGINX, conditional=True),
                _peer(setups.ENVOY, conditional=True),
            ),
        ),
        Scenario(
            name="valkey",
            title="hit of tier 2, 1.4 KB, 1,000 pupils",
            lanes=(
                Lane(MASSAR_VALKEY, "massar-gateway, tier 2"),
                Lane(MASSAR, "massar-gateway, tier 1", aim=0.5),
                _peer(setups.FASTAPI_MEMO),
            ),
        ),
        Scenario(
            name="miss",
            title=f"miss forwarded to an origin that takes {setups.ORIGIN_DELAY_MS} ms, {_MISSES_AT_ONCE} at once",
            connections=_MISSES_AT_ONCE,
            lanes=(
                Lane(MASSAR_MISS, "massar-gateway, filling both tiers"),
                _peer(setups.ENVOY_SLOW, 0.4),
                _peer(setups.NGINX_SLOW),
                _peer(setups.HTTPX_SLOW, 15.0),
            ),
        ),
        Scenario(
            name="first-seen",
            title="first-seen tokens, warm answers of 1.4 KB",
            tokens=FRESH_TOKENS_PER_S,
            fresh=True,
            lanes=(_OURS, *_CACHING),
        ),
        Scenario(
            name="large",
            title="warm read of 64 KB, 1,000 tokens of one class",
            large=True,
            lanes=(_OURS, *(lane for lane in _CACHING if lane.server in _MEMOS)),
        ),
        Scenario(
            name="mix",
            title=(
                "95 % warm reads of 1.4 KB, 5 % whose answer has changed;"
                f" 200,000 tokens by Zipf's law, 1,000 pupils, {_MISSES_AT_ONCE} at once"
            ),
            # A miss takes so much longer than a hit that hardly anything else is under way: as many as of misses alone.
            connections=_MISSES_AT_ONCE,
            tokens=MANY_TOKENS,
            mixed=True,
            lanes=(
                Lane(MASSAR_MIX, "massar-gateway"),
                _peer(setups.NGINX_MIX),
                _peer(setups.ENVOY),
                _peer(setups.HAPROXY_MIX),
                _peer(setups.FASTAPI_MEMO),
            ),
        ),
        Scenario(
            name="h2",
            title=(
                "HTTP/2 over TLS: warm read of 1.4 KB, 1,000 pupils,"
                f" {_H2_CONNECTIONS // http2.CONNECTIONS_EACH} at once with {http2.CONNECTIONS_EACH} connections each"
            ),
            connections=_H2_CONNECTIONS,
            lanes=(
                _peer(setups.MASSAR_H2),
                _peer(setups.NGINX_H2),
                _peer(setups.ENVOY_H2),
                _peer(setups.HAPROXY_H2),
            ),
        ),
    )
}


def requests(lane: Lane, tokens: Iterable[tuple[Pupil, str]], etags: Mapping[str, bytes]) -> list[bytes]:
    """The raw requests of one block, in an order that is the same in every run."""
    wanted = [
        raw(pupil.path, token, etag=etags[pupil.path] if lane.conditional else None)
        for pupil, token in tokens
    ]
    random.Random(_SHUFFLED_BY).shuffle(wanted)
    return wanted


def raw(path: str, token: str, *, etag: bytes | None = None) -> bytes:
    """One request as an app sends it."""
    lines = [
        f"GET {path} HTTP/1.1",
        "host: massar.example",
        f"authorization: Bearer {token}",
        "accept: application/json",
        "accept-language: fr",
        "user-agent: massar-bench",
    ]
    head = "\r\n".join(lines).encode("ascii")
    return head + (b"\r\nif-none-match: " + etag if etag else b"") + b"\r\n\r\n"
