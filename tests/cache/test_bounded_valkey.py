"""Asking within bounds, one connection for all; the rest shows over real Valkeys in test_valkey.py and test_valkey_fleets.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from cache.bounded_valkey import (
    FOUND_AGAIN_S,
    REDIRECTS_MAX,
    BoundedValkey,
    Breaker,
    CacheUnavailable,
    Question,
    Script,
)
from sandbox import ports
from tests.cache.conftest import MortalValkey
from tests.cache.relay import Relay, relay_to
from tests.waiting import eventually

READERS = 200
NAMES = [b"%d" % number for number in range(99)]
ECHO = Script("return ARGV[1]")
At = Callable[[str], BoundedValkey]


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """Makes what asks at a URL, and closes it afterwards."""
    made: list[BoundedValkey] = []

    def make(url: str) -> BoundedValkey:
        made.append(BoundedValkey(url, monotonic=time.monotonic, operation_max_s=5))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
async def relay(mortal_valkey: MortalValkey) -> AsyncIterator[Relay]:
    async with relay_to(mortal_valkey.port) as made:
        yield made


async def test_all_readers_of_a_process_share_one_connection_from_the_first_question_on(
    relay: Relay, at: At
) -> None:
    valkey = at(relay.url)
    replies = await asyncio.gather(
        *[valkey.ask(Question(b"a", ("ECHO", str(number)))) for number in range(READERS)]
    )
    assert replies == [str(number).encode() for number in range(READERS)]
    assert (relay.connections, valkey.connections) == (1, 1)


async def test_a_connection_that_was_cut_is_made_anew_by_the_next_question(relay: Relay, at: At) -> None:
    valkey = at(relay.url)
    relay.cut_after = 4
    with pytest.raises(CacheUnavailable):
        await valkey.ask(Question(b"a", ("ECHO", "long enough to be cut")))
    relay.cut_after = None
    assert await valkey.ask(Question(b"a", ("ECHO", "whole"))) == b"whole"
    assert valkey.connections == 2


async def test_what_holds_no_string_holds_nothing_wherever_names_are_kept(
    mortal_valkey: MortalValkey, at: At
) -> None:
    async with Redis.from_url(mortal_valkey.url) as client:
        await client.set("string", "1")
        await client.rpush("list", "1")
    assert await at(mortal_valkey.url).values([b"string", b"list", b"missing"]) == [b"1", None, None]


async def test_scripts_that_valkey_does_not_know_are_told_and_the_others_are_not_run_again(
    relay: Relay, at: At
) -> None:
    valkey = at(relay.url)
    given = [([b"a"], [str(number)]) for number in range(3)]
    assert await valkey.run_all(ECHO, given) == [b"0", b"1", b"2"]
    told = b"".join(relay.asked).count(b"EVAL\r\n")
    assert await valkey.run_all(ECHO, given) == [b"0", b"1", b"2"]
    assert b"".join(relay.asked).count(b"EVAL\r\n") == told == 3


async def test_nodes_that_send_each_other_round_and_round_are_left_after_a_few_times(at: At) -> None:
    asked = 0

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        port = writer.get_extra_info("sockname")[1]
        while data := await reader.read(65_536):
            if b"SLOTS" in data:
                node = b"*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$2\r\nid\r\n" % port
                writer.write(b"*1\r\n*3\r\n:0\r\n:16383\r\n" + node)
            else:
                asked += 1
                writer.write(b"-MOVED 15495 127.0.0.1:%d\r\n" % port)
        writer.close()

    server = await asyncio.start_server(elsewhere, ports.LOOPBACK, 0)
    async with server:
        valkey = at(f"redis+cluster://{ports.LOOPBACK}:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(CacheUnavailable, match="MOVED"):
            await valkey.ask(Question(b"a", ("GET", "a")))
        assert asked == 1 + REDIRECTS_MAX
        await valkey.aclose()


async def test_many_who_waited_on_one_lost_connection_are_one_failure(relay: Relay, at: At) -> None:
    valkey = at(relay.url)
    await valkey.ask(Question(b"a", ("PING",)))
    waiting = [
        asyncio.create_task(valkey.ask(Question(b"a", ("BLPOP", "nothing", "0")))) for _ in range(READERS)
    ]
    await eventually(lambda: b"".join(relay.asked).count(b"BLPOP") == READERS, within_s=5)
    relay.hang_up()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, CacheUnavailable) for outcome in outcomes)
    assert await valkey.ask(Question(b"a", ("ECHO", "next"))) == b"next"


async def test_many_who_do_not_know_where_to_ask_are_one_search(at: At) -> None:
    searches = 0

    async def seed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal searches
        port = writer.get_extra_info("sockname")[1]
        while data := await reader.read(65_536):
            searches += data.count(b"SLOTS")
            if b"SLOTS" in data:
                node = b"*3\r\n$-1\r\n:%d\r\n$2\r\nid\r\n" % port
                writer.write(b"*1\r\n*3\r\n:0\r\n:16383\r\n" + node)
            else:
                writer.write(b"$1\r\nx\r\n" * data.count(b"GET"))
        writer.close()

    server = await asyncio.start_server(seed, ports.LOOPBACK, 0)
    async with server:
        valkey = at(f"redis+cluster://{ports.LOOPBACK}:{server.sockets[0].getsockname()[1]}")
        asked = [valkey.ask(Question(b"%d" % number, ("GET", str(number)))) for number in range(READERS)]
        assert await asyncio.gather(*asked) == [b"x"] * READERS
        assert searches == 1
        await valkey.aclose()


async def served(valkey: BoundedValkey, name: bytes) -> bool:
    try:
        return bool(await valkey.ask(Question(name, ("GET", name))) == b"x")
    except CacheUnavailable:
        return False


async def test_what_no_node_has_is_not_looked_for_at_every_question(at: At) -> None:
    searches = 0
    open_: list[asyncio.StreamWriter] = []

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal searches
        open_.append(writer)
        port = writer.get_extra_info("sockname")[1]
        while data := await reader.read(65_536):
            if b"SLOTS" in data:
                searches += 1
                node = b"*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$2\r\nid\r\n" % port
                writer.write(b"*1\r\n*3\r\n:0\r\n:8191\r\n" + node)
            else:
                writer.write(b"$1\r\nx\r\n" * data.count(b"GET"))
        writer.close()

    had = next(name for name in NAMES if key_slot(name) < 8_192)
    missing = next(name for name in NAMES if key_slot(name) >= 8_192)
    now = [0.0]
    server = await asyncio.start_server(half, ports.LOOPBACK, 0)
    async with server:
        url = f"redis+cluster://{ports.LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        async with aclosing(BoundedValkey(url, monotonic=lambda: now[0], operation_max_s=5)) as valkey:
            for turn in range(1, 3):
                for _ in range(READERS):
                    with pytest.raises(CacheUnavailable):
                        await valkey.ask(Question(missing, ("GET", missing)))
                    assert await valkey.ask(Question(had, ("GET", had))) == b"x"
                assert searches == turn
                now[0] += FOUND_AGAIN_S
            with pytest.raises(CacheUnavailable):
                await valkey.ask(Question(missing, ("GET", missing)))
            for writer in open_:
                writer.close()
            assert await eventually(lambda: served(valkey, had), within_s=5), "though the clock stands still"


async def test_closed_it_asks_nobody(mortal_valkey: MortalValkey, at: At) -> None:
    valkey = at(mortal_valkey.url)
    await valkey.aclose()
    with pytest.raises(CacheUnavailable, match="closed"):
        await valkey.ask(Question(b"a", ("PING",)))


def test_it_opens_after_failures_in_a_row_and_lets_one_probe_through_a_period() -> None:
    now = [0.0]
    breaker = Breaker(failures_max=3, open_s=1.0, monotonic=lambda: now[0])
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    assert breaker.admits(), "not in a row"
    breaker.failed()
    assert not breaker.admits()
    now[0] = 0.99
    assert not breaker.admits()
    now[0] = 1.0
    assert breaker.admits()
    assert not breaker.admits(), "one probe only"
    now[0] = 2.0
    assert breaker.admits(), "a probe whose caller left does not lock it"
    breaker.failed()
    now[0] = 2.9
    assert not breaker.admits()
    now[0] = 3.0
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()
