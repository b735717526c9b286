"""What is done on behalf of one request shares its patience and its place."""

from __future__ import annotations

import asyncio
import contextvars

from cache.request import Places, Request, begin_request, behind_another, patience_is_spent, spend_patience


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
    with behind_another():
        return patience_is_spent()


def test_a_request_that_only_waits_leaves_its_place_to_one_that_works() -> None:
    room = places(working_max=1)
    waits, works = Request(room), Request(room)
    with waits:
        assert room.full
        waits.join()
        assert not room.full
        with works:
            assert room.full
            assert (room.working, room.waiting, len(room)) == (1, 1, 2)
        waits.part()
        assert room.full
    assert (room.working, room.waiting) == (0, 0)


def test_a_request_of_many_reads_has_one_place() -> None:
    room = places()
    page = Request(room)
    with page:
        page.join()
        page.join()
        assert (room.working, room.waiting) == (0, 1)
        page.part()
        assert (room.working, room.waiting) == (0, 1)
        page.part()
        assert (room.working, room.waiting) == (1, 0)


def test_where_enough_wait_others_do_so_in_the_places_they_have() -> None:
    room = places(waiting_max=1)
    first, second = Request(room), Request(room)
    with first, second:
        first.join()
        second.join()
        assert (room.working, room.waiting) == (1, 1)
        first.part()
        second.part()
        assert (room.working, room.waiting) == (2, 0)


def test_what_outlives_its_request_moves_nobody() -> None:
    room = places()
    left = Request(room)
    with left:
        left.join()
    assert (room.working, room.waiting) == (0, 0)
    left.part()
    left.join()
    assert (room.working, room.waiting) == (0, 0)


def test_a_request_is_told_of_by_the_task_that_works_for_it() -> None:
    room = places()

    def run() -> None:
        with begin_request(room):
            with behind_another():
                assert (room.working, room.waiting) == (0, 1)
            assert (room.working, room.waiting) == (1, 0)

    contextvars.Context().run(run)
