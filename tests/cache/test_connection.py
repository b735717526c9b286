"""One connection for everybody: whatever becomes of it, a reply reaches the command that it answers, or nobody."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cache import connection
from cache.connection import (
    STALL_S,
    Address,
    Busy,
    Connection,
    ConnectionLost,
    Login,
    LoginRefused,
    Refused,
    dial,
)
from sandbox import ports
from sandbox.valkey import ValkeyServer
from tests.cache.conftest import MortalValkey
from tests.cache.relay import Relay, relay_to
from tests.waiting import eventually

LONG_S = 5.0
SHORT_S = 0.1
# Where a reply has to come before it, whatever else the machine does.
PATIENT_S = 1.0


@pytest.fixture
async def relay(mortal_valkey: MortalValkey) -> AsyncIterator[Relay]:
    async with relay_to(mortal_valkey.port) as made:
        yield made


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def connected(
    port: int, opened: AsyncExitStack, *, silent_max_s: float = LONG_S, login: Login | None = None
) -> Connection:
    made = await dial(Address(ports.LOOPBACK, port), login or Login(), silent_max_s=silent_max_s)
    opened.callback(made.close)
    return made


async def filled(port: int, **values: bytes) -> None:
    async with Redis(host=ports.LOOPBACK, port=port) as client:
        await client.mset(dict(values))


# Together, and in order


async def test_what_is_asked_in_one_turn_is_written_together(relay: Relay, opened: AsyncExitStack) -> None:
    one = await connected(relay.port, opened)
    await asyncio.gather(*[one.ask([("ECHO", str(number))]) for number in range(100)])
    assert (relay.connections, len(relay.asked)) == (1, 1)


async def test_everybody_gets_the_replies_to_his_own_commands(relay: Relay, opened: AsyncExitStack) -> None:
    one = await connected(relay.port, opened)
    asked = [[("ECHO", f"{number}-{place}") for place in range(number % 3 + 1)] for number in range(500)]
    replies = await asyncio.gather(*[one.ask(batch) for batch in asked])
    assert replies == [[command[1].encode() for command in batch] for batch in asked]


async def test_a_refusal_is_a_reply_and_spoils_no_other(relay: Relay, opened: AsyncExitStack) -> None:
    one = await connected(relay.port, opened)
    replies = await one.ask([("ECHO", "a"), ("LPOP",), ("ECHO", "b")])
    assert (replies[0], replies[2]) == (b"a", b"b")
    assert isinstance(replies[1], Refused)
    assert replies[1].code == "ERR"


async def test_who_stops_waiting_keeps_his_place_in_the_line(relay: Relay, opened: AsyncExitStack) -> None:
    one = await connected(relay.port, opened)
    first, second, third = (one.ask([("ECHO", word)]) for word in "abc")
    second.cancel()
    assert (await first, await third) == ([b"a"], [b"c"])


# Cut, garbled, silent


async def test_cut_at_any_byte_of_a_pipelined_reply_nobody_hears_anothers(
    relay: Relay, mortal_valkey: MortalValkey, opened: AsyncExitStack
) -> None:
    await filled(mortal_valkey.port, a=b"the first", b=b"$3\r\nevil\r\n", d=b"")
    batches: list[list[tuple[str, ...]]] = [
        [("GET", "a")],
        [("GET", "b"), ("GET", "missing")],
        [("LPOP",)],
        [("GET", "d")],
        [("GET", "a")],
    ]
    plain = await connected(mortal_valkey.port, opened)
    right = await asyncio.gather(*[plain.ask(batch) for batch in batches])
    whole = 0
    for cut_after in range(1, 1_000):
        relay.cut_after = cut_after
        one = await connected(relay.port, opened)
        heard = await asyncio.gather(*[one.ask(batch) for batch in batches], return_exceptions=True)
        for reply, expected in zip(heard, right, strict=True):
            assert isinstance(reply, ConnectionLost) or reply == expected
        whole = sum(not isinstance(reply, ConnectionLost) for reply in heard)
        if whole == len(batches):
            break
        assert one.lost
        with pytest.raises(ConnectionLost):
            await one.ask([("GET", "a")])
    assert whole == len(batches), "the last cut came after everything"


@pytest.mark.parametrize("garbage", [b"nonsense\r\n", b"$-5\r\n", b"*1\r\n!", b"\x00" * 64])
async def test_what_is_no_reply_fails_everybody_and_the_connection(
    garbage: bytes, relay: Relay, opened: AsyncExitStack
) -> None:
    relay.slipped_in = garbage
    one = await connected(relay.port, opened)
    for waiting in [one.ask([("ECHO", word)]) for word in "ab"]:
        with pytest.raises(ConnectionLost):
            await waiting
    assert one.lost


async def test_a_reply_that_nobody_asked_for_ends_the_connection(
    relay: Relay, opened: AsyncExitStack
) -> None:
    relay.slipped_in = b"+OK\r\n"
    one = await connected(relay.port, opened)
    assert await eventually(lambda: one.lost, within_s=LONG_S)


async def test_a_hung_valkey_fails_everybody_within_the_time_and_ends_the_connection(
    mortal_valkey: MortalValkey, opened: AsyncExitStack
) -> None:
    one = await connected(mortal_valkey.port, opened, silent_max_s=SHORT_S)
    mortal_valkey.signal(signal.SIGSTOP)
    for waiting in [one.ask([("ECHO", word)]) for word in "ab"]:
        with pytest.raises(ConnectionLost, match="it says nothing"):
            await waiting
    assert one.lost
    mortal_valkey.signal(signal.SIGCONT)


async def test_one_who_is_late_gives_up_alone_while_others_are_answered(
    relay: Relay, mortal_valkey: MortalValkey, opened: AsyncExitStack
) -> None:
    await filled(mortal_valkey.port, long=b"x" * 1_000_000)
    one = await connected(relay.port, opened, silent_max_s=PATIENT_S)
    relay.passes = 0
    late = one.ask([("GET", "long")])

    def given_up() -> bool:
        relay.let_pass(1)
        return late.done()

    await eventually(given_up, within_s=LONG_S)
    with pytest.raises(TimeoutError):
        await late
    assert not one.lost
    relay.passes = None
    relay.let_pass(2_000_000)
    assert await one.ask([("ECHO", "next")]) == [b"next"]


async def test_idleness_is_no_silence(relay: Relay, opened: AsyncExitStack) -> None:
    one = await connected(relay.port, opened, silent_max_s=SHORT_S)
    assert await one.ask([("ECHO", "a")]) == [b"a"]
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(2 * SHORT_S, passed.set_result, None)
    await passed
    assert await one.ask([("ECHO", "b")]) == [b"b"]


async def test_a_loop_that_stood_still_loses_no_connection_that_works(
    relay: Relay, opened: AsyncExitStack
) -> None:
    one = await connected(relay.port, opened, silent_max_s=PATIENT_S)
    relay.passes = 0
    for turns_before in range(3):
        waiting = one.ask([("ECHO", "a")])
        for _ in range(turns_before):
            await asyncio.sleep(0)
        stands_until = time.monotonic() + 1.5 * PATIENT_S
        while time.monotonic() < stands_until:
            pass
        # Longer than a reply that is there already takes to be read, and far less than may be waited.
        asyncio.get_running_loop().call_later(PATIENT_S / 10, relay.let_pass, len(b"$1\r\na\r\n"))
        assert await waiting == [b"a"]
    assert not one.lost


@pytest.mark.parametrize("word", [None, bytearray(b"x"), "\ud800"])
async def test_what_cannot_be_said_takes_nobodys_place(
    word: object, relay: Relay, opened: AsyncExitStack
) -> None:
    one = await connected(relay.port, opened)
    first = one.ask([("ECHO", "a")])
    for commands in ([("ECHO", word)], []):
        with pytest.raises((TypeError, ValueError)):
            await one.ask(commands)
    assert (await first, await one.ask([("ECHO", "b")])) == ([b"a"], [b"b"])


async def test_a_reply_that_reads_as_no_is_a_reply(relay: Relay, opened: AsyncExitStack) -> None:
    one = await connected(relay.port, opened)
    await one.ask([("HELLO", "3")])
    script = "redis.setresp(3); return false"
    assert (await one.ask([("EVAL", script, "0"), ("ECHO", "next")]))[1] == b"next"


@pytest.mark.parametrize("waiters", [0, 3])
async def test_its_loss_is_told_once_and_whether_anybody_waited(
    waiters: int, relay: Relay, opened: AsyncExitStack
) -> None:
    told: list[bool] = []
    one = await connected(relay.port, opened)
    one.on_lost = told.append
    assert await one.ask([("ECHO", "a")]) == [b"a"]
    waiting = [one.ask([("BLPOP", "nothing", "0")]) for _ in range(waiters)]
    relay.hang_up()
    await eventually(lambda: one.lost, within_s=LONG_S)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes)
    assert told == [waiters > 0]


# Bounds


async def test_no_more_than_so_many_wait(
    relay: Relay, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WAITING_MAX", 2)
    one = await connected(relay.port, opened)
    waiting = [one.ask([("ECHO", word)]) for word in "ab"]
    with pytest.raises(Busy, match="too much"):
        await one.ask([("ECHO", "c")])
    assert await asyncio.gather(*waiting) == [[b"a"], [b"b"]]
    assert await one.ask([("ECHO", "c")]) == [b"c"]


async def test_no_more_than_so_many_bytes_wait_for_a_valkey_that_takes_nothing(
    relay: Relay, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNSENT_BYTES_MAX", 1_000_000)
    relay.reads = False
    one = await connected(relay.port, opened)

    def full() -> bool:
        try:
            opened.callback(one.ask([("ECHO", b"x" * 1_000_000)]).cancel)
        except Busy:
            return True
        return False

    assert await eventually(full, within_s=LONG_S)


async def test_everybody_hears_of_a_connection_that_is_closed_here(
    relay: Relay, opened: AsyncExitStack
) -> None:
    one = await connected(relay.port, opened)
    waiting = one.ask([("ECHO", "a")])
    one.close()
    with pytest.raises(ConnectionLost, match="closed"):
        await waiting


# Logging in


async def test_a_right_password_is_let_in_and_a_wrong_one_is_told_from_silence(
    valkey_server: ValkeyServer, opened: AsyncExitStack
) -> None:
    right = Login(username="default", password=valkey_server.password)
    one = await connected(valkey_server.port, opened, login=right)
    assert await one.ask([("ECHO", "a")]) == [b"a"]
    with pytest.raises(LoginRefused, match="WRONGPASS"):
        await connected(valkey_server.port, opened, login=Login(password="wrong"))


async def test_the_database_is_the_one_that_was_named(
    mortal_valkey: MortalValkey, opened: AsyncExitStack
) -> None:
    await filled(mortal_valkey.port, a=b"in the first")
    other = await connected(mortal_valkey.port, opened, login=Login(database=3))
    assert await other.ask([("GET", "a")]) == [None]


async def test_who_wants_a_primary_takes_no_replica(
    mortal_valkey: MortalValkey, opened: AsyncExitStack
) -> None:
    one = await connected(mortal_valkey.port, opened, login=Login(of_primary=True))
    await one.ask([("REPLICAOF", ports.LOOPBACK, "1")])
    with pytest.raises(ConnectionLost, match="replica"):
        await connected(mortal_valkey.port, opened, login=Login(of_primary=True))


async def test_nobody_there_is_lost_at_once_and_a_hung_one_after_the_time(
    mortal_valkey: MortalValkey, opened: AsyncExitStack
) -> None:
    with pytest.raises(ConnectionLost, match="Refused"):
        await connected(ports.free_ports(1)[0], opened)
    mortal_valkey.signal(signal.SIGSTOP)
    with pytest.raises(ConnectionLost):
        await connected(mortal_valkey.port, opened, silent_max_s=SHORT_S, login=Login(database=1))
    mortal_valkey.signal(signal.SIGCONT)


async def test_a_socket_in_the_file_system_is_an_address(
    mortal_valkey: MortalValkey, opened: AsyncExitStack, tmp_path: Path
) -> None:
    path = str(tmp_path / "valkey.sock")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(len(b"*1\r\n$4\r\nPING\r\n")))
        writer.close()

    server = await asyncio.start_unix_server(carry, path)
    async with server:
        one = await dial(Address(path=path), Login(), silent_max_s=LONG_S)
        opened.callback(one.close)
        assert await one.ask([("PING",)]) == [[b"PING"]]


async def test_one_that_says_nothing_is_found_out_though_every_turn_of_the_loop_is_long(
    relay: Relay, opened: AsyncExitStack
) -> None:
    one = await connected(relay.port, opened, silent_max_s=SHORT_S)
    relay.passes = 0
    waiting, given_up_at = one.ask([("ECHO", "a")]), time.monotonic() + LONG_S
    while not waiting.done() and time.monotonic() < given_up_at:
        stands_until = time.monotonic() + 2 * STALL_S
        while time.monotonic() < stands_until:
            pass
        await asyncio.sleep(0)
    assert one.lost
    with pytest.raises(ConnectionLost, match="it says nothing"):
        await waiting
