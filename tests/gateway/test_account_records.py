"""Sign-outs in the journal, and done again in the accounts of a site that takes over."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from auth import sessions
from auth.accounts import open_engine, transaction
from datacenters import etcd_keys
from datacenters.etcd import Etcd
from datacenters.feeds import Publisher
from datacenters.journal import Journal, Kind, opened
from datacenters.journal_seal import JournalSeal
from datacenters.replay import Mismatch, Replay, ReplayFailed, Report
from gateway.account_records import AccountsPath, EndedSession, sign_out_record, stands
from tests.auth.people import START
from tests.gateway.accounts import Accounts
from tests.gateway.people import PARENT
from tests.gateway.world import declare, move

SID, OTHER = "sidaaaaaaaaaaaaa", "sidbbbbbbbbbbbbb"
RECORD = sign_out_record(EndedSession(sid=SID, ended_at=START + 5.0), order=7)


@pytest.fixture
async def two_sessions(accounts: Accounts) -> Accounts:
    """One account with two live sessions."""
    await accounts.login(PARENT)
    async with transaction(accounts.engine) as connection:
        account = (await connection.execute(text("SELECT id FROM accounts"))).scalar_one()
        for sid in (SID, OTHER):
            await sessions.insert_session(
                connection,
                sid=sid,
                account_id=account,
                device_id="phone-1",
                device_name="",
                now=START,
                ttl_s=3600,
            )
    return accounts


async def ended(accounts: Accounts) -> dict[str, float | None]:
    """When each session ended, and that none of their denials is due."""
    async with transaction(accounts.engine) as connection:
        rows = (await connection.execute(text("SELECT sid, ended_at, denial_due FROM sessions"))).all()
    assert not any(row.denial_due for row in rows)
    return {row.sid: row.ended_at and row.ended_at.timestamp() for row in rows}


async def stand(accounts: Accounts) -> tuple[int, int]:
    async with transaction(accounts.engine) as connection:
        return await stands(connection)


def test_a_record_tells_the_session_and_nobody() -> None:
    assert RECORD.kind is Kind.ACCOUNTS
    assert (RECORD.key, RECORD.order, RECORD.decided_at, RECORD.tags) == (SID, 7, START + 5.0, ())
    assert RECORD.digest == hashlib.sha256(b"").digest()
    assert {RECORD.subject, RECORD.role} == {"-"}
    again = sign_out_record(EndedSession(sid=SID, ended_at=START + 9.0), order=8)
    assert (again.name, again.ordering_key) == (RECORD.name, RECORD.ordering_key)
    assert sign_out_record(EndedSession(sid=OTHER, ended_at=START), order=7).name != RECORD.name


async def test_what_was_committed_before_stands_at_or_below(two_sessions: Accounts) -> None:
    before = await stand(two_sessions)
    async with transaction(two_sessions.engine) as connection:
        await sessions.end(connection, [SID], now=START)
        inside = await stands(connection)
    after = await stand(two_sessions)
    assert before[0] == after[0] >= 1
    assert before < after
    assert inside <= after


async def test_a_replayed_sign_out_ends_its_session_when_it_was_ended_and_no_other(
    two_sessions: Accounts,
) -> None:
    before = await stand(two_sessions)
    done = await AccountsPath(two_sessions.engine).replay(RECORD, epoch=2)
    assert await ended(two_sessions) == {SID: START + 5.0, OTHER: None}
    assert done.at > before
    assert (done.order, done.repeated) == (7, False)


async def test_replaying_twice_changes_nothing(two_sessions: Accounts) -> None:
    path = AccountsPath(two_sessions.engine)
    later = sign_out_record(EndedSession(sid=SID, ended_at=START + 60.0), order=9)
    for record in (RECORD, RECORD, later):
        await path.replay(record, epoch=2)
    assert await ended(two_sessions) == {SID: START + 5.0, OTHER: None}


async def test_a_session_whose_row_was_lost_with_its_site_is_ended_enough(two_sessions: Accounts) -> None:
    lost = sign_out_record(EndedSession(sid="sidccccccccccccc", ended_at=START), order=1)
    await AccountsPath(two_sessions.engine).replay(lost, epoch=2)
    assert await ended(two_sessions) == {SID: None, OTHER: None}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"sid":5,"ended_at":1}', b'{"sid":"a","ended_at":"now"}'])
async def test_what_is_no_sessions_end_is_left_to_a_human(accounts: Accounts, body: bytes) -> None:
    with pytest.raises(Mismatch):
        await AccountsPath(accounts.engine).replay(msgspec.structs.replace(RECORD, body=body), epoch=2)


async def test_without_its_database_the_replay_begins_again_later() -> None:
    engine = open_engine("postgresql://nobody:x@127.0.0.1:9/accounts")
    with pytest.raises(ReplayFailed):
        await AccountsPath(engine).replay(RECORD, epoch=2)
    await engine.dispose()


async def test_a_sign_out_in_the_journal_is_done_at_the_site_that_takes_over(
    two_sessions: Accounts, etcd_client: Etcd, keys_folder: Path
) -> None:
    await declare(etcd_client)
    publisher, seal = Publisher(etcd_client), JournalSeal.load(keys_folder / "journal.key")
    journal = Journal(etcd_client, publisher, seal)
    await journal.keep(RECORD, epoch=1, at=(1, 100))
    await journal.aclose()
    await move(etcd_client, epoch=2, active="marrakech")
    replay = Replay(etcd_client, publisher, seal, {Kind.ACCOUNTS: AccountsPath(two_sessions.engine)})
    before = await stand(two_sessions)
    assert await replay.run(epoch=2) == Report(done=1, repeated=0, parked=0)
    assert await ended(two_sessions) == {SID: START + 5.0, OTHER: None}
    (item,) = (await etcd_client.range(etcd_keys.JOURNAL, prefix=True)).items
    timeline, lsn, name = item.key.removeprefix(etcd_keys.JOURNAL).split("/")
    assert (int(timeline), int(lsn)) > before  # it stays until the next standby has this site's own
    assert opened(item.value, name, seal) == RECORD
    await replay.run(epoch=2)
    assert await ended(two_sessions) == {SID: START + 5.0, OTHER: None}
