"""The client against real members: comparisons decide races, watches end honestly, endpoints rotate."""

from __future__ import annotations

import asyncio

import pytest

from datacenters.etcd import Change, Compacted, Delete, Etcd, EtcdRefused, EtcdUnavailable, Put
from sandbox.etcd import EtcdServer
from tests.waiting import eventually

RACERS = 20


async def compact(client: Etcd, revision: int) -> None:
    response = await client._watches.post(
        f"{client._urls[0]}/v3/kv/compaction", json={"revision": str(revision), "physical": True}
    )
    assert response.status_code == 200


async def test_what_is_put_is_read_with_its_revision(etcd: Etcd) -> None:
    revision = await etcd.put("massar/a", b"\x00\xff value")
    found = await etcd.read("massar/a")
    assert found is not None
    assert (found.key, found.value, found.revision) == ("massar/a", b"\x00\xff value", revision)
    await etcd.delete("massar/a")
    assert await etcd.read("massar/a") is None


async def test_a_prefix_lists_its_keys_and_only_newer_ones_when_asked(etcd: Etcd) -> None:
    await etcd.put("massar/p/1", b"1")
    revision = await etcd.put("massar/p/2", b"2")
    await etcd.put("massar/q", b"3")
    listing = await etcd.range("massar/p/", prefix=True)
    assert [item.key for item in listing.items] == ["massar/p/1", "massar/p/2"]
    assert listing.revision >= revision
    newer = await etcd.range("massar/p/", prefix=True, newer_than=revision - 1)
    assert [item.value for item in newer.items] == [b"2"]


async def test_of_many_concurrent_claimers_exactly_one_wins(etcd: Etcd) -> None:
    await etcd.put("massar/epoch", b"1")
    outcomes = await asyncio.gather(
        *(
            etcd.transact(
                unchanged={"massar/epoch": b"1"},
                puts=[Put("massar/epoch", b"2"), Put("massar/control", str(racer).encode())],
            )
            for racer in range(RACERS)
        )
    )
    winners = [racer for racer, outcome in enumerate(outcomes) if outcome.succeeded]
    assert len(winners) == 1
    found = await etcd.read("massar/control")
    assert found is not None
    assert found.value == str(winners[0]).encode()


async def test_a_key_that_must_not_exist_is_compared_too(etcd: Etcd) -> None:
    first = await etcd.transact(unchanged={"massar/new": None}, puts=[Put("massar/new", b"1")])
    second = await etcd.transact(unchanged={"massar/new": None}, puts=[Put("massar/new", b"2")])
    assert (first.succeeded, second.succeeded) == (True, False)


async def test_a_transaction_removes_a_key_or_all_up_to_another_but_not_that_one(etcd: Etcd) -> None:
    for name in "abcdef":
        await etcd.put(f"massar/d/{name}", b"1")
    done = await etcd.transact(
        unchanged={"massar/d/a": b"1"},
        puts=[Put("massar/d/new", b"2")],
        deletes=[Delete("massar/d/f"), Delete("massar/d/b", end="massar/d/d")],
    )
    assert done.succeeded
    left = (await etcd.range("massar/d/", prefix=True)).items
    assert [item.key.rpartition("/")[2] for item in left] == ["a", "d", "e", "new"]
    assert not (await etcd.transact(unchanged={"massar/d/a": b"2"}, deletes=[Delete("massar/d/a")])).succeeded
    assert await etcd.count("massar/d/") == 4


async def test_a_transaction_that_fails_reads_instead_what_it_was_told_to(etcd: Etcd) -> None:
    await etcd.put("massar/epoch", b"2")
    await etcd.put("massar/other", b"\x00\xff")
    asked = ("massar/epoch", "massar/other", "massar/absent")
    failed = await etcd.transact(
        unchanged={"massar/epoch": b"1"}, puts=[Put("massar/x", b"")], else_read=asked
    )
    assert (failed.succeeded, failed.found) == (False, {"massar/epoch": b"2", "massar/other": b"\x00\xff"})
    done = await etcd.transact(unchanged={"massar/epoch": b"2"}, puts=[Put("massar/x", b"")], else_read=asked)
    assert (done.succeeded, done.found) == (True, {})


async def test_keys_are_counted_by_prefix_and_what_a_member_keeps_is_measured(etcd: Etcd) -> None:
    assert await etcd.count("massar/n/") == 0
    for name in range(5):
        await etcd.put(f"massar/n/{name}", b"x" * 200_000)
    await etcd.put("massar/n", b"")
    assert await etcd.count("massar/n/") == 5
    # A member writes its pages to disk a little after it has answered.
    await eventually(lambda: _at_least(etcd, 1_000_000), within_s=5)


async def _at_least(etcd: Etcd, size: int) -> bool:
    return await etcd.bytes_in_use() >= size


async def test_a_lease_takes_its_keys_along(etcd: Etcd) -> None:
    lease = await etcd.grant(60)
    await etcd.put("massar/leased", b"1", lease=lease)
    assert await etcd.keep_alive(lease)
    await etcd.revoke(lease)
    assert await etcd.read("massar/leased") is None
    assert not await etcd.keep_alive(lease)


async def test_a_put_under_a_lease_that_is_gone_is_refused(etcd: Etcd) -> None:
    lease = await etcd.grant(60)
    await etcd.revoke(lease)
    with pytest.raises(EtcdRefused) as refused:
        await etcd.put("massar/leased", b"1", lease=lease)
    assert refused.value.lease_gone


async def test_a_watch_brings_changes_in_order(etcd: Etcd) -> None:
    revision = await etcd.put("massar/w/0", b"before")
    seen: list[Change] = []
    async with etcd.watch("massar/w/", prefix=True, from_revision=revision + 1) as changes:
        await etcd.put("massar/w/1", b"1")
        await etcd.put("massar/w/2", b"2")
        await etcd.delete("massar/w/1")
        async with asyncio.timeout(5):
            async for some in changes:
                seen += some
                if len(seen) == 3:
                    break
    assert [(one.item.key, one.item.value, one.deleted) for one in seen] == [
        ("massar/w/1", b"1", False),
        ("massar/w/2", b"2", False),
        ("massar/w/1", b"", True),
    ]
    assert [one.item.revision for one in seen] == sorted(one.item.revision for one in seen)


async def test_a_watch_may_be_silent_for_longer_than_a_question_may_take(etcd: Etcd) -> None:
    client = Etcd([etcd._urls[0]], timeout_s=1.0, connect_timeout_s=1.0)
    revision = await etcd.put("massar/s", b"before")
    async with client.watch("massar/s", from_revision=revision + 1) as changes:
        hearing = asyncio.ensure_future(anext(changes))
        heard, _ = await asyncio.wait([hearing], timeout=1.5)
        assert not heard
        await etcd.put("massar/s", b"after")
        async with asyncio.timeout(5):
            (change,) = await hearing
    assert change.item.value == b"after"
    await client.aclose()


async def test_a_watch_of_compacted_history_says_so(etcd: Etcd) -> None:
    first = await etcd.put("massar/c", b"1")
    await etcd.put("massar/c", b"2")
    await compact(etcd, await etcd.put("massar/c", b"3"))
    async with etcd.watch("massar/c", from_revision=first) as changes:
        with pytest.raises(Compacted):
            async with asyncio.timeout(5):
                await anext(changes)


async def test_leaving_a_watch_leaves_nothing_behind(etcd: Etcd) -> None:
    before = asyncio.all_tasks()
    for _ in range(40):  # more than there are connections
        async with etcd.watch("massar/x", from_revision=0):
            pass
    watching = asyncio.create_task(_watch_for_ever(etcd))
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert await etcd.read("massar/x") is None
    await eventually(lambda: asyncio.all_tasks() <= before, within_s=2)


async def _watch_for_ever(etcd: Etcd) -> None:
    async with etcd.watch("massar/x", from_revision=0) as changes:
        async for _ in changes:
            pass


async def test_one_member_killed_another_answers(etcd_trio: tuple[EtcdServer, ...]) -> None:
    client = Etcd([server.url for server in etcd_trio], timeout_s=3.0)
    try:
        await client.put("massar/k", b"1")
        etcd_trio[0].process.kill()
        # With a third of the members gone the rest elect within a second or so.
        await eventually(lambda: _put_works(client), within_s=10)
        assert client._preferred != 0
    finally:
        await client.aclose()


async def test_without_a_majority_nothing_answers_and_the_watch_ends(
    etcd_trio: tuple[EtcdServer, ...],
) -> None:
    client = Etcd([server.url for server in etcd_trio], timeout_s=0.5)
    try:
        async with client.watch("massar/k", from_revision=0) as changes:
            for server in etcd_trio[1:]:
                server.process.kill()
            with pytest.raises(EtcdUnavailable):
                await client.range("massar/k")
            with pytest.raises(EtcdUnavailable) as failure:
                await client.transact(unchanged={"massar/k": None}, puts=[Put("massar/k", b"1")])
            assert failure.value.maybe_applied
            with pytest.raises(EtcdUnavailable):
                async with asyncio.timeout(10):
                    await anext(changes)
    finally:
        await client.aclose()


async def _put_works(client: Etcd) -> bool:
    try:
        await client.put("massar/k", b"2")
    except EtcdUnavailable:
        return False
    return True


async def test_after_a_failure_the_own_member_is_tried_again_later(etcd: Etcd) -> None:
    now = 0.0
    client = Etcd(["http://127.0.0.1:1", etcd._urls[0]], monotonic=lambda: now)
    try:
        await client.read("massar/k")
        assert client._preferred == 1
        now = 4.9
        await client.read("massar/k")
        assert client._preferred == 1
        now = 5.0
        assert client._first_choice() == 0
    finally:
        await client.aclose()


async def test_nobody_listening_is_unavailable_and_surely_not_applied() -> None:
    client = Etcd(["http://127.0.0.1:1", "http://127.0.0.1:2"])
    try:
        with pytest.raises(EtcdUnavailable) as failure:
            await client.transact(unchanged={}, puts=[Put("massar/k", b"1")])
        assert not failure.value.maybe_applied
    finally:
        await client.aclose()


async def test_a_transaction_that_may_have_arrived_is_not_sent_to_another_member(etcd: Etcd) -> None:
    arrived = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read(10_000))
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Etcd([f"http://127.0.0.1:{port}", etcd._urls[0]])
    try:
        with pytest.raises(EtcdUnavailable) as failure:
            await client.transact(unchanged={}, puts=[Put("massar/once", b"1")])
        assert failure.value.maybe_applied
        assert len(arrived) == 1
        assert await client.read("massar/once") is None
    finally:
        await client.aclose()
        server.close()
        await server.wait_closed()


async def test_a_repeatable_transaction_goes_to_another_member_and_says_when_one_may_have_applied_it(
    etcd: Etcd,
) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    deaf = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for urls in ([deaf, etcd._urls[0]], [deaf, "http://127.0.0.1:1"]):
        client = Etcd(urls)
        try:
            sent = client.transact(unchanged={}, puts=[Put("massar/again", b"1")], repeatable=True)
            if etcd._urls[0] in urls:
                assert (await sent).succeeded
            else:
                with pytest.raises(EtcdUnavailable) as failure:
                    await sent
                assert failure.value.maybe_applied
        finally:
            await client.aclose()
    server.close()
    await server.wait_closed()
    assert await etcd.read("massar/again") is not None


def test_a_client_without_endpoints_is_refused() -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Etcd([])
