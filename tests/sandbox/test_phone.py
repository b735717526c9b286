"""A phone before two small real gateways: rotation, tokens, and reading what it wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sandbox.phone import NoAnswer, resource_of
from tests.sandbox.scripted import CUT, World, in_the_world, problem

BOOK = "/v1/gradebooks/c/MATH/1"


@pytest.fixture
async def at() -> AsyncIterator[World]:
    async with in_the_world() as world:
        yield world


async def test_a_failed_connection_moves_it_to_the_next_site_and_it_stays_there(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    await at.rabat.stop()
    told = await phone.get("/v1/me")
    assert (told.status, told.site, told.rotated, phone.site) == (200, "marrakech", True, "marrakech")
    again = await phone.get("/v1/me")
    assert (again.site, again.rotated) == ("marrakech", False)


async def test_many_requests_that_fail_together_leave_a_site_once(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    await at.rabat.stop()
    told = await asyncio.gather(*(phone.get("/v1/me") for _ in range(6)))
    assert {each.status for each in told} == {200}
    assert phone.site == "marrakech"


async def test_a_write_goes_around_under_its_key(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    at.country.script.append(CUT)
    assert (await phone.put(f"{BOOK}/entries", {"mark": 1}, key="k")).site == "marrakech"
    assert [(seen.site, seen.key) for seen in at.country.writes()] == [("rabat", "k"), ("marrakech", "k")]


async def test_with_nobody_there_it_says_so(at: World) -> None:
    phone = at.phone()
    await at.rabat.stop()
    await at.marrakech.stop()
    with pytest.raises(NoAnswer):
        await phone.get("/v1/me")


async def test_a_token_that_ran_out_is_renewed_once_for_all(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    at.country.token = "two"
    told = await asyncio.gather(*(phone.get(f"/v1/{number}") for number in range(5)))
    assert {each.status for each in told} == {200}
    assert at.country.refreshes == 1


async def test_who_cannot_renew_is_signed_out(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    at.country.token, at.country.refresh_refused = "two", True
    assert (await phone.get("/v1/me")).slug == "token-expired"
    assert not phone.signed_in.is_set()
    await phone.sign_in()
    assert phone.signed_in.is_set()
    assert (await phone.get("/v1/me")).status == 200


async def test_a_session_that_ended_is_no_use_renewing(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    at.country.script.append(problem(401, "session-ended"))
    await phone.put(f"{BOOK}/entries", {})
    assert not phone.signed_in.is_set()
    assert at.country.refreshes == 0


async def test_later_reads_carry_the_position_of_the_last_write_to_what_they_read(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    await phone.get(BOOK)
    other = BOOK.replace("MATH", "SVT")
    for book in (BOOK, other):
        await phone.put(f"{book}/entries", {})
    for path in (BOOK, other, "/v1/me"):
        await phone.get(path)
    sent = [seen.headers.get("massar-position") for seen in at.country.seen if seen.method == "GET"]
    assert sent == [None, "1-1", "1-2", "1-2"]


async def test_a_write_that_was_refused_says_no_position(at: World) -> None:
    phone = at.phone()
    await phone.sign_in()
    at.country.script.append(problem(404, "not-found", massar_position="1-9"))
    await phone.put(f"{BOOK}/entries", {})
    assert phone.positions == {}


def test_entries_change_their_gradebook() -> None:
    assert resource_of(f"{BOOK}/entries") == BOOK
    assert (
        resource_of("/v1/classes/c/attendance/2026-11-18/0830") == "/v1/classes/c/attendance/2026-11-18/0830"
    )
