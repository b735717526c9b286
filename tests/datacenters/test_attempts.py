"""One request to one datacenter: what its failure proves, and that nothing is ever sent twice."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from datacenters import attempts
from datacenters.attempts import DATA_AGE_MAX_S, Answer, Attempts, Failed, Outcome, Outgoing, StaleEpoch
from datacenters.breaker import HUNG_STREAK, OPEN_AFTER_UNREACHABLE_S, State
from datacenters.forwarding_events import ForwardingEvents
from datacenters.in_flight import Priority
from datacenters.lane import Full
from datacenters.sites import Site
from tests.datacenters.origin import (
    CUT,
    CUT_IN_BODY,
    HANG,
    Origin,
    Pouring,
    Reply,
    origins,
    problem,
    verified,
)
from tests.waiting import eventually

KEY = Ed25519PrivateKey.generate()
KEYS = {"gateway:marrakech": KEY.public_key()}
NOW = 1_790_000_000.0
EPOCH_MAX = 10_003


def asked(method: str = "PUT", target: str = "/v1/x", body: bytes = b'{"a":1}', **headers: str) -> Outgoing:
    return Outgoing(
        method=method, target=target, body=body, headers=headers, subject="t" * 16, role="teacher"
    )


class Events(ForwardingEvents):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.states: list[tuple[str, State]] = []
        self.shed_of: list[tuple[str, Priority]] = []
        self.under_way: list[tuple[str, int]] = []

    def breaker(self, datacenter: str, state: State) -> None:
        self.states.append((datacenter, state))

    def shed(self, datacenter: str, priority: Priority) -> None:
        self.shed_of.append((datacenter, priority))

    def in_flight(self, datacenter: str, count: int) -> None:
        self.under_way.append((datacenter, count))


class World:
    def __init__(self, origin: Origin, **options: Any) -> None:
        self.origin = origin
        self.events = Events()
        self.now = 0.0
        self.outcomes: list[tuple[str, Outcome]] = []
        self.users: list[tuple[str, bool]] = []
        self.attempts = Attempts(
            sites={"rabat": Site(datacenter_url=origin.url)},
            site="marrakech",
            assertion_key=KEY,
            on_outcome=lambda datacenter, outcome: self.outcomes.append((datacenter, outcome)),
            on_user=lambda datacenter, well: self.users.append((datacenter, well)),
            events=self.events,
            clock=lambda: NOW,
            monotonic=lambda: self.now,
            **options,
        )

    async def send(
        self,
        outgoing: Outgoing | None = None,
        *,
        within_s: float = 2.0,
        priority: Priority = Priority.WRITE,
    ) -> Answer:
        return await self.attempts.send(
            "rabat",
            outgoing or asked(),
            epoch=3,
            epoch_max=EPOCH_MAX,
            within_s=within_s,
            priority=priority,
        )

    @property
    def skipping(self) -> bool:
        return not self.attempts.lane("rabat").admits_reads()


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    async with origins("rabat") as (origin,):
        made = World(origin, **options)
        try:
            yield made
        finally:
            await made.attempts.aclose()


async def test_the_request_arrives_as_asked_and_signed_for_exactly_that() -> None:
    async with world() as at:
        target = "/v1/pupils/abc/grades?view=family&year=2026&session=%41~.-_*()!$,;:@+"
        await at.send(asked("PUT", target, b'{"x":"\xd9\x85"}', **{"idempotency-key": "k"}))
        (seen,) = at.origin.seen
        assert (seen.method, seen.target, seen.body) == ("PUT", target, b'{"x":"\xd9\x85"}')
        assert seen.headers["idempotency-key"] == "k"
        assert seen.headers["massar-epoch"] == "3"
        claims = verified(at.origin, seen, KEYS, now=NOW)
        assert (claims.sub, claims.role, claims.epoch) == ("t" * 16, "teacher", 3)
        assert "accept-encoding" not in seen.headers


async def test_whatever_is_asked_is_signed_as_it_is_sent() -> None:
    async with world() as at:
        odd = "".join(map(chr, range(32, 127))) + "\t\n\x00م"
        await at.send(asked("GET", "/v1/x" + odd, b""))
        await at.send(asked("GET", "/v1/x?q=" + odd, b""))
        for seen in at.origin.seen:
            assert verified(at.origin, seen, KEYS, now=NOW).htu == seen.target


@pytest.mark.parametrize("path", ["/a/../b", "/..", "/a/./b", "/a/%2e%2E/b", "/a/.%2e", "a", "", "http://x/"])
async def test_a_path_that_would_become_another_one_is_refused(path: str) -> None:
    async with world() as at:
        with pytest.raises(ValueError, match="plain"):
            await at.send(asked("GET", path, b""))
        assert at.origin.seen == []


async def test_the_answer_is_passed_on_untouched() -> None:
    async with world() as at:
        headers = {
            "Massar-Epoch": "4",
            "Massar-Position": "2-900",
            "Massar-Data-Age": "1.5",
            "ETag": '"x"',
            "Content-Encoding": "gzip",
        }
        at.origin.reply(Reply(status=404, headers=headers, body=b"not really gzip"))
        answer = await at.send()
        assert (answer.status, answer.body) == (404, b"not really gzip")
        assert (answer.epoch, answer.position, answer.data_age_s) == (4, (2, 900), 1.5)
        assert answer.headers["etag"] == '"x"'
        assert at.outcomes == [("rabat", Outcome.OK)]


async def test_redirects_are_answers_not_instructions() -> None:
    async with world() as at:
        at.origin.reply(Reply(status=307, headers={"location": "/elsewhere"}))
        assert (await at.send()).status == 307
        assert len(at.origin.seen) == 1


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with origins("proxy") as (proxy,):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with world() as at:
            assert (await at.send()).status == 200
        assert os.environ["HTTP_PROXY"] == proxy.url
        assert proxy.seen == []


async def test_a_refused_connection_proves_that_nothing_was_done() -> None:
    async with world() as at:
        await at.origin.stop()
        with pytest.raises(Failed) as failure:
            await at.send()
        assert (failure.value.nothing_done, failure.value.away) == (True, True)
        assert at.outcomes == [("rabat", Outcome.UNREACHABLE)]


async def test_a_server_that_accepts_nothing_is_a_connect_failure_in_time() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # fill the backlog, so that further connections get no answer
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        try:
            async with world() as at:
                at.attempts._urls["rabat"] = f"http://127.0.0.1:{deaf.getsockname()[1]}"
                with pytest.raises(Failed) as failure:
                    await at.send(within_s=5.0)
                assert failure.value.nothing_done
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("reply", [CUT, CUT_IN_BODY])
async def test_a_connection_that_ends_early_proves_nothing_and_is_sent_once(reply: Reply) -> None:
    async with world() as at:
        at.origin.reply(reply)
        with pytest.raises(Failed) as failure:
            await at.send()
        assert not failure.value.nothing_done
        assert at.outcomes == [("rabat", Outcome.BROKEN)]
        assert len(at.origin.seen) == 1


@pytest.mark.parametrize("abort", [False, True])
async def test_a_kept_connection_that_breaks_under_a_write_sends_it_once(abort: bool) -> None:
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for turn in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            if turn == 0:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        if abort:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with world() as at:
            at.attempts._urls["rabat"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await at.send(asked(body=b"first"))
            with pytest.raises(Failed) as failure:
                await at.send(asked(body=b"second"))
            assert not failure.value.nothing_done
            assert bodies == [b"first", b"second"]
    finally:
        server.close()
        await server.wait_closed()


async def test_a_kept_connection_that_died_is_replaced() -> None:
    """Until this end has heard of its death a request may still go down with it."""

    async def answered(at: World) -> bool:
        try:
            return (await at.send()).status == 200
        except Failed:
            return False

    async with world() as at:
        await at.send()
        await at.origin.stop()
        await at.origin.start()
        await eventually(lambda: answered(at), within_s=5)


async def test_no_answer_in_time_proves_nothing() -> None:
    async with world() as at:
        at.origin.reply(HANG)
        with pytest.raises(Failed) as failure:
            await at.send(within_s=0.1)
        assert (failure.value.nothing_done, failure.value.away) == (False, True)
        assert at.outcomes == [("rabat", Outcome.TIMEOUT)]
        at.origin.released.set()


@pytest.mark.parametrize(
    ("reply", "nothing_done", "away"),
    [
        (problem(500, "internal"), False, False),
        (problem(501, "read-only"), False, False),
        (problem(503, "read-only"), True, True),
        (problem(503, "overloaded"), True, True),
        (Reply(status=503, body=b"<html>"), False, True),
        (Reply(status=502), False, True),
    ],
)
async def test_of_the_server_errors_only_the_datacenters_own_word_proves_that_nothing_was_done(
    reply: Reply, nothing_done: bool, away: bool
) -> None:
    async with world() as at:
        at.origin.reply(reply)
        with pytest.raises(Failed) as failure:
            await at.send()
        assert (failure.value.nothing_done, failure.value.away) == (nothing_done, away)
        assert at.outcomes == [("rabat", Outcome.ERROR)]


async def test_a_datacenter_that_does_not_believe_the_gateway_did_nothing_and_failed_no_user() -> None:
    async with world() as at:
        at.origin.reply(problem(401, "assertion-invalid"))
        with pytest.raises(Failed) as failure:
            await at.send()
        assert (failure.value.nothing_done, failure.value.away) == (True, False)
        assert (at.outcomes, at.users) == ([("rabat", Outcome.ERROR)], [])


async def test_a_stale_epoch_is_told_with_the_epoch_that_is_known_there() -> None:
    async with world() as at:
        at.origin.reply(problem(409, "stale-epoch", Massar_Epoch="7"))
        with pytest.raises(StaleEpoch) as stale:
            await at.send()
        assert (stale.value.epoch, stale.value.nothing_done) == (7, True)


async def test_another_conflict_is_an_answer() -> None:
    async with world() as at:
        at.origin.reply(problem(409, "idempotency-key-in-progress"))
        assert (await at.send()).status == 409


@pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "1 2"])
async def test_headers_that_say_nothing_readable_are_no_knowledge(text: str) -> None:
    async with world() as at:
        at.origin.reply(Reply(headers={"Massar-Epoch": text, "Massar-Position": text}))
        answer = await at.send()
        assert (answer.epoch, answer.position) == (0, (0, 0))


@pytest.mark.parametrize("text", ["9" * 40, "4294967296-1", "1-18446744073709551616", "1-٥"])
async def test_a_position_that_no_postgresql_has_is_no_knowledge(text: str) -> None:
    async with world() as at:
        at.origin.reply(Reply(headers={"Massar-Position": text}))
        assert (await at.send()).position == (0, 0)


@pytest.mark.parametrize("reply", [Reply(), problem(409, "stale-epoch"), problem(404, "not-found")])
@pytest.mark.parametrize("epoch", [str(EPOCH_MAX + 1), "1790000000", "9" * 18, "9" * 40])
async def test_an_answer_that_names_an_impossible_epoch_is_no_answer_and_proves_nothing(
    reply: Reply, epoch: str
) -> None:
    async with world() as at:
        at.origin.reply(msgspec.structs.replace(reply, headers={"Massar-Epoch": epoch}))
        with pytest.raises(Failed, match="impossible epoch") as failure:
            await at.send()
        assert not isinstance(failure.value, StaleEpoch)
        assert (failure.value.nothing_done, failure.value.away) == (False, False)
        assert at.outcomes == [("rabat", Outcome.ERROR)]
        at.origin.reply(Reply(headers={"Massar-Epoch": str(EPOCH_MAX)}))
        assert (await at.send()).epoch == EPOCH_MAX


@pytest.mark.parametrize(
    ("text", "age_s"),
    [("-5", 0.0), ("1e300", DATA_AGE_MAX_S), ("inf", DATA_AGE_MAX_S), ("nan", DATA_AGE_MAX_S), ("x", None)],
)
async def test_an_age_is_one_that_can_be_told(text: str, age_s: float | None) -> None:
    async with world() as at:
        at.origin.reply(Reply(headers={"Massar-Data-Age": text}))
        assert (await at.send()).data_age_s == age_s


async def test_at_the_bound_nothing_more_is_sent_and_places_come_back() -> None:
    async with world(in_flight_max=2) as at:
        at.origin.reply(HANG)
        waiting = [asyncio.create_task(at.send()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await at.send()
        at.origin.released.set()
        await asyncio.gather(*waiting)
        assert len(at.origin.seen) == 2
        assert (await at.send()).status == 200


async def test_a_cancelled_caller_gives_its_place_back() -> None:
    async with world(in_flight_max=1) as at:
        at.origin.reply(HANG, Reply())
        waiting = asyncio.create_task(at.send())
        await at.origin.arrived.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await at.send()).status == 200


async def test_after_a_connect_failure_it_is_skipped_for_a_moment() -> None:
    async with world() as at:
        await at.origin.stop()
        assert not at.skipping
        with pytest.raises(Failed):
            await at.send()
        assert at.skipping
        at.now = OPEN_AFTER_UNREACHABLE_S
        assert not at.skipping


async def test_a_streak_of_silence_is_skipped_and_an_answer_ends_the_streak() -> None:
    async with world() as at:
        at.origin.reply(HANG, HANG, Reply(), HANG, HANG, HANG)
        for _ in range(2):
            with pytest.raises(Failed):
                await at.send(within_s=0.05)
        await at.send()
        for _ in range(HUNG_STREAK):
            assert not at.skipping
            with pytest.raises(Failed):
                await at.send(within_s=0.05)
        assert at.skipping


async def test_an_answer_beyond_the_bound_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ANSWER_BYTES_MAX", 10)
    async with world() as at:
        at.origin.reply(Reply(body=b"x" * 11))
        with pytest.raises(Failed, match="bound") as failure:
            await at.send()
        assert (failure.value.nothing_done, failure.value.away, failure.value.in_passing) == (False,) * 3
        assert (at.outcomes, at.users) == ([("rabat", Outcome.ERROR)], [("rabat", False)])
        assert not at.skipping


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_page_beyond_the_bound_of_who_stands_before_a_datacenter_says_that_it_is_away(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(attempts, "ANSWER_BYTES_MAX", 10)
    async with world() as at:
        at.origin.reply(Reply(status=status, body=b"x" * 11))
        with pytest.raises(Failed, match="bound") as failure:
            await at.send()
        assert (failure.value.nothing_done, failure.value.away) == (False, True)


async def test_an_answer_without_an_end_is_left_long_before_the_deadline_and_gives_its_place_back() -> None:
    async with world(in_flight_max=1) as at, Pouring().open() as origin:
        at.attempts._urls["rabat"] = origin.url
        for _ in range(3):
            with pytest.raises(Failed, match="bound"):
                await at.send(within_s=60.0)
        assert origin.connections == 3
        assert at.events.under_way[-1] == ("rabat", 0)


async def test_one_who_writes_and_fails_a_hundred_times_is_one_user() -> None:
    async with world() as at:
        at.origin.reply(*[problem(500, "internal")] * 100, Reply())
        for turn in range(100):
            with pytest.raises(Failed):
                await at.send(asked("PUT", f"/v1/x/{turn}"))
        await at.send()
        assert at.outcomes == [("rabat", Outcome.ERROR)] * 100 + [("rabat", Outcome.OK)]
        assert at.users == [("rabat", False), ("rabat", True)]


async def test_who_reads_is_told_by_the_path_alone() -> None:
    async with world() as at:
        at.origin.reply(*[problem(500, "internal")] * 4)
        for target in ("/v1/a?from=1", "/v1/a?from=2", "/v1/a", "/v1/b"):
            with pytest.raises(Failed):
                await at.send(asked("GET", target, b""))
        assert at.users == [("rabat", False)] * 2


async def test_every_kind_of_failure_is_one_a_user_met() -> None:
    async with world() as at:
        at.origin.reply(CUT, HANG, Reply(status=404))
        for path in ("/v1/a", "/v1/b", "/v1/c"):
            with suppress(Failed):
                await at.send(asked("GET", path, b""), within_s=0.2)
        at.origin.released.set()
        await at.origin.stop()
        with pytest.raises(Failed):
            await at.send(asked("GET", "/v1/d", b""))
        assert [well for _, well in at.users] == [False, False, True, False]


@pytest.mark.parametrize(
    ("reply", "counts"),
    [
        (Reply(status=502), True),
        (Reply(status=503, body=b"<html>"), True),
        (problem(503, "records-unavailable"), True),
        (problem(503, "read-only"), False),
        (problem(503, "switching"), False),
        (problem(503, "overloaded"), False),
        (problem(504, "outcome-unknown"), False),
        (problem(500, "internal"), False),
        (problem(401, "assertion-invalid"), False),
        (CUT, True),
    ],
)
async def test_a_datacenter_that_answers_for_itself_is_not_skipped(reply: Reply, counts: bool) -> None:
    async with world() as at:
        at.origin.reply(reply)
        for _ in range(10):
            with pytest.raises(Failed):
                await at.send()
        assert at.skipping is counts


async def test_the_way_is_open_again_only_after_an_answer() -> None:
    async with world() as at:
        await at.origin.stop()
        with pytest.raises(Failed):
            await at.send()
        await at.origin.start()
        at.now = 1.0
        assert at.attempts.lane("rabat").begin_read()
        assert at.skipping
        await at.send(asked("GET", body=b""))
        assert not at.skipping
        assert [state for _, state in at.events.states] == [
            State.CLOSED,
            State.OPEN,
            State.HALF_OPEN,
            State.CLOSED,
        ]


async def test_a_trial_whose_asker_leaves_is_anybodys_again() -> None:
    async with world() as at:
        await at.origin.stop()
        with pytest.raises(Failed):
            await at.send()
        await at.origin.start()
        at.now = 1.0
        at.origin.reply(HANG)
        assert at.attempts.lane("rabat").begin_read()
        trial = asyncio.create_task(at.send(asked("GET", body=b"")))
        await at.origin.arrived.wait()
        assert at.skipping
        trial.cancel()
        await asyncio.gather(trial, return_exceptions=True)
        assert not at.skipping


async def test_reads_give_way_to_relations_and_both_to_writes() -> None:
    async with world(in_flight_max=10) as at:
        at.origin.reply(HANG)
        waiting = [asyncio.create_task(at.send(priority=Priority.READ)) for _ in range(12)]
        waiting += [asyncio.create_task(at.send(priority=Priority.RELATION)) for _ in range(4)]
        waiting += [asyncio.create_task(at.send(priority=Priority.WRITE)) for _ in range(3)]
        await asyncio.sleep(0)
        shed = [priority for _, priority in at.events.shed_of]
        assert [shed.count(kind) for kind in (Priority.READ, Priority.RELATION, Priority.WRITE)] == [5, 2, 2]
        at.origin.released.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len(at.origin.seen) == 10
        assert at.events.under_way[-1] == ("rabat", 0)


_TARGETS = st.text("aZ0/._~-?&=%2eé ", max_size=12).map("/{}".format)


@given(st.one_of(_TARGETS, st.from_regex(attempts._PLAIN, fullmatch=True)))
def test_a_target_that_is_taken_as_it_is_would_come_out_as_it_is(target: str) -> None:
    if attempts._PLAIN.fullmatch(target):
        assert attempts._escaped(target) == target
