"""Session rows: room for one more, whose they are, and what an end leaves behind."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import sessions
from auth.accounts import SessionRow, at, transaction
from auth.opaque_id import new_id
from auth.principal import APP_OF_ROLE, App, Principal, Role
from auth.sessions import ENDED_KEPT_S, ENDING_MAX, SESSIONS_MAX
from tests.auth.people import START, Clock, add_account

TTL_S = 1000


async def account_id(engine: AsyncEngine, subject: str) -> str:
    """The account of a subject."""
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT id FROM accounts WHERE subject = :s"), {"s": subject})
        return str(found.scalar_one())


async def open_session(engine: AsyncEngine, account: str, now: float, *, room: int | None = None) -> str:
    """Insert a session, making room first where `room` says for how many."""
    sid = new_id()
    async with transaction(engine) as connection:
        if room is not None:
            await sessions.make_room(connection, account, most=room, now=now)
        await sessions.insert_session(
            connection,
            sid=sid,
            account_id=account,
            device_id="phone",
            device_name="Phone",
            now=now,
            ttl_s=TTL_S,
        )
    return sid


async def rows(engine: AsyncEngine) -> dict[str, bool]:
    """Every session row: its id and whether it has ended."""
    async with engine.connect() as connection:
        found = await connection.execute(select(SessionRow.sid, SessionRow.ended_at))
        return {row.sid: row.ended_at is not None for row in found}


def caller(subject: str, sid: str = "", role: Role = Role.STUDENT) -> Principal:
    """A principal of that subject."""
    return Principal(subject=subject, role=role, app=APP_OF_ROLE[role], sid=sid, expires_at=START + 600)


@pytest.fixture
async def subject(engine: AsyncEngine) -> str:
    """Somebody with an account."""
    return await add_account(engine)


@pytest.fixture
async def account(engine: AsyncEngine, subject: str) -> str:
    """That account."""
    return await account_id(engine, subject)


async def test_the_longest_unused_sessions_make_room(engine: AsyncEngine, account: str, clock: Clock) -> None:
    opened = []
    for _ in range(5):
        clock.advance(1)
        opened.append(await open_session(engine, account, clock(), room=3))
    assert await rows(engine) == {sid: index < 2 for index, sid in enumerate(opened)}
    async with transaction(engine) as connection:
        await sessions.advance(connection, opened[2], sequence=2, now=clock() + 1, ttl_s=TTL_S)
    last = await open_session(engine, account, clock() + 2, room=3)
    ended = [sid for sid, over in (await rows(engine)).items() if over]
    assert set(ended) == {opened[0], opened[1], opened[3]}
    assert last not in ended


async def test_what_made_room_is_to_be_denied_until_it_was(engine: AsyncEngine, account: str) -> None:
    older, newer = await open_session(engine, account, START), await open_session(engine, account, START + 1)
    async with transaction(engine) as connection:
        assert await sessions.make_room(connection, account, most=3, now=START + 2) == []
        assert await sessions.make_room(connection, account, most=2, now=START + 2) == [older]
        assert await sessions.make_room(connection, account, most=1, now=START + 3) == sorted([older, newer])
        await sessions.note_denied(connection, [older])
        assert await sessions.make_room(connection, account, most=1, now=START + 4) == [newer]


async def test_rows_long_over_are_forgotten(engine: AsyncEngine, account: str) -> None:
    expired = await open_session(engine, account, START - TTL_S)
    long_ended, just_ended = [await open_session(engine, account, START) for _ in range(2)]
    async with transaction(engine) as connection:
        await sessions.end(connection, [long_ended], now=START - ENDED_KEPT_S)
        await sessions.end(connection, [just_ended], now=START - 1)
        await sessions.make_room(connection, account, most=SESSIONS_MAX, now=START)
    left = await rows(engine)
    assert expired not in left
    assert long_ended not in left
    assert left == {just_ended: True}


async def test_a_family_is_read_with_its_account(engine: AsyncEngine, account: str, subject: str) -> None:
    sid = await open_session(engine, account, START)
    async with transaction(engine) as connection:
        held = await sessions.lock_family(connection, sid, now=START)
        assert held is not None
        assert (held.account.subject, held.family.sequence, held.family.exchanged_at) == (subject, 1, None)
        assert held.family.live
        assert await sessions.lock_family(connection, new_id(), now=START) is None
        await sessions.advance(connection, sid, sequence=8, now=START + 5.25, ttl_s=TTL_S)
        held = await sessions.lock_family(connection, sid, now=START)
        assert held is not None
        assert (held.family.sequence, held.family.exchanged_at) == (8, START + 5.25)


@pytest.mark.parametrize("how", ["ended", "expired", "disabled"])
async def test_a_family_that_is_over_is_not_live(engine: AsyncEngine, account: str, how: str) -> None:
    sid = await open_session(engine, account, START)
    async with transaction(engine) as connection:
        if how == "ended":
            await sessions.end(connection, [sid], now=START)
        if how == "disabled":
            await connection.execute(text("UPDATE accounts SET status = 'disabled'"))
        now = START + TTL_S if how == "expired" else START + 1
        held = await sessions.lock_family(connection, sid, now=now)
        assert held is not None
        assert not held.family.live
        assert held.denial_due is (how == "ended")


async def test_own_sessions_are_those_of_the_subject_in_the_app(
    engine: AsyncEngine, account: str, subject: str
) -> None:
    mine = [await open_session(engine, account, START) for _ in range(2)]
    other = await add_account(engine, "other@taalim.ma")
    theirs = await open_session(engine, await account_id(engine, other), START)
    async with transaction(engine) as connection:
        assert sorted(mine) == await sessions.lock_own(connection, caller(subject), now=START)
        assert await sessions.lock_own(connection, caller(subject), now=START, sid=mine[0]) == [mine[0]]
        assert await sessions.lock_own(connection, caller(subject), now=START, sid=theirs) == []
        elsewhere = Principal(
            subject=subject, role=Role.PARENT, app=App.WALIYE, sid=mine[0], expires_at=START + 600
        )
        assert await sessions.lock_own(connection, elsewhere, now=START) == []
        assert await sessions.lock_own(connection, caller(subject), now=START + TTL_S) == []


async def test_an_end_whose_denial_is_due_can_be_finished_and_one_that_was_denied_cannot(
    engine: AsyncEngine, account: str, subject: str
) -> None:
    sid = await open_session(engine, account, START)
    async with transaction(engine) as connection:
        await sessions.end(connection, [sid], now=START)
        await sessions.end(connection, [sid], now=START + 50)
        first_end = (await connection.execute(select(SessionRow.ended_at))).scalar_one()
        assert first_end == at(START)
        assert await sessions.lock_own(connection, caller(subject), now=START) == [sid]
        await sessions.note_denied(connection, [sid])
        assert await sessions.lock_own(connection, caller(subject), now=START) == []
        assert await sessions.live_sessions(connection, caller(subject), now=START) == ()


async def test_an_end_of_late_can_be_asked_for_again(engine: AsyncEngine, account: str, subject: str) -> None:
    lately, earlier = [await open_session(engine, account, START) for _ in range(2)]
    async with transaction(engine) as connection:
        await sessions.end(connection, [earlier], now=START + 10)
        await sessions.end(connection, [lately], now=START + 11)
        await sessions.note_denied(connection, [earlier, lately])
        mine = caller(subject)
        assert await sessions.lock_own(connection, mine, now=START + 20, ended_within_s=10) == [lately]
        assert await sessions.lock_own(connection, mine, now=START + 20) == []


async def test_what_one_sign_out_ends_is_bounded_and_the_live_come_first(
    engine: AsyncEngine, account: str, subject: str
) -> None:
    live = [await open_session(engine, account, START) for _ in range(2)]
    due = await open_session(engine, account, START)
    latest = [await open_session(engine, account, START) for _ in range(ENDING_MAX - 3)]
    oldest = [await open_session(engine, account, START) for _ in range(2)]
    async with transaction(engine) as connection:
        await sessions.end(connection, oldest, now=START + 2)
        await sessions.end(connection, latest, now=START + 3)
        await sessions.note_denied(connection, [*oldest, *latest])
        await sessions.end(connection, [due], now=START + 1)
        own = await sessions.lock_own(connection, caller(subject), now=START + 4, ended_within_s=60)
    assert own == sorted([*live, due, *latest])


async def test_live_sessions_are_listed_last_used_first(
    engine: AsyncEngine, account: str, subject: str
) -> None:
    older, newer = await open_session(engine, account, START), await open_session(engine, account, START + 5)
    async with transaction(engine) as connection:
        listed = await sessions.live_sessions(connection, caller(subject, older), now=START + 6)
    assert [(view.sid, view.current) for view in listed] == [(newer, False), (older, True)]
    assert (listed[1].device_id, listed[1].device_name) == ("phone", "Phone")
    assert (listed[1].created_at, listed[1].last_used_at) == (at(START), at(START))
