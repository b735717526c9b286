"""What is done on behalf of one request shares its patience and its place."""

from __future__ import annotations

import asyncio
import contextvars

from cache.request import Places, Request, awaiting, begin_request, patience_is_spent, spend_patience


def places(*, working_max: int = 2, waiting_max: int = 2) -> Places:
    return Places(working_max=working_max, waiting_max=waiting_max)


async def test_patience_is_spent_for_one_request_and_whatever_is_done_on_its_behalf() -> None:
    async def request(*, slow: bool) -> tuple[bool, bool]:
        begin_request(places())
        before = patience_is_spent()
        if slow:
            await asyncio.create_task(_spent())
        return before, patience_is_spent()

    requests = [asyncio.create_task(request(slow=slow)) for slow in (True, False)]
    assert await asyncio.gather(*requests) == [(False, True), (False, False)]


async def test_outside_a_request_nothing_is_noted() -> None:
    assert not await asyncio.create_task(_spent(), context=contextvars.Context())


async def _spent() -> bool:
    spend_patience()
    with awaiting(joined=True):
        return patience_is_spent()


def test_a_request_that_only_waits_leaves_its_place_to_one_that_works() -> None:
    room = places(working_max=1)
    waits, works = Request(room), Request(room)
    with waits:
        assert room.full
        waits.count(+1, joined=True)
        assert not room.full
        with works:
            assert room.full
            assert (room.working, room.waiting, len(room)) == (1, 1, 2)
        waits.count(-1, joined=True)
        assert room.full
    assert (room.working, room.waiting) == (0, 0)


def test_a_request_of_many_reads_has_one_place_and_waits_when_all_of_them_do() -> None:
    room = places()
    page = Request(room)
    told = []
    with page:
        for reads, joined in ((+1, True), (+1, False), (+1, True), (-1, False), (-1, True), (-1, True)):
            page.count(reads, joined=joined)
            told.append((room.working, room.waiting))
    assert told == [(0, 1), (1, 0), (1, 0), (0, 1), (0, 1), (1, 0)]
    assert (room.working, room.waiting) == (0, 0)


def test_where_enough_wait_others_do_so_in_the_places_they_have() -> None:
    room = places(waiting_max=1)
    first, second = Request(room), Request(room)
    with first, second:
        first.count(+1, joined=True)
        second.count(+1, joined=True)
        assert (room.working, room.waiting) == (1, 1)
        first.count(-1, joined=True)
        second.count(-1, joined=True)
        assert (room.working, room.waiting) == (2, 0)


def test_what_outlives_its_request_moves_nobody() -> None:
    room = places()
    left = Request(room)
    with left:
        left.count(+1, joined=True)
    assert (room.working, room.waiting) == (0, 0)
    left.count(-1, joined=True)
    left.count(+1, joined=True)
    assert (room.working, room.waiting) == (0, 0)


def test_a_request_is_told_of_by_the_task_that_works_for_it() -> None:
    room = places()

    def run() -> None:
        with begin_request(room):
            with awaiting(joined=True):
                assert (room.working, room.waiting) == (0, 1)
            with awaiting(joined=False):
                assert (room.working, room.waiting) == (1, 0)
            assert (room.working, room.waiting) == (1, 0)

    contextvars.Context().run(run)
