"""Marks: a verdict per row, once per key, and on the family's next page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from routes.problems import ADVICE, PROBLEMS
from tests.journeys.books import Book, Cell, batch, new_key, slugs, tell
from tests.journeys.lines import Line, heard_everywhere, outcome
from tests.journeys.people import NOBODY, Mint, People


async def held(line: Line, book: Book, token: str, cell: Cell) -> tuple[str | None, int]:
    """Mark and version of a cell as its teacher reads them."""
    rows = (await line.get(book.path, token)).json()["rows"]
    marks = next(row["marks"] for row in rows if row["pupil_id"] == cell.pupil)
    return next((mark["mark"], mark["version"]) for mark in marks if mark["number"] == cell.number)


# Marks, row by row


async def test_every_row_has_its_own_verdict(
    book: Book, cells: Iterator[Cell], teacher: str, people: People, rabat: Line
) -> None:
    first, second, third, other = (next(cells) for _ in range(4))
    rows = [
        (first.entry("13.25"), "accepted"),
        (second.entry(None, state="absent"), "accepted"),
        (third.entry("12.00", version=third.version + 7), "version-conflict"),
        (other.entry("20.01"), "mark-invalid"),
        ({**first.entry("7.5"), "number": 2}, "mark-invalid"),
        ({**second.entry(None), "number": 2}, "mark-invalid"),
        ({**third.entry("10.00", state="absent"), "number": 2}, "mark-invalid"),
        ({**other.entry(None, state="pending"), "number": 2}, "mark-invalid"),
        ({**first.entry(), "pupil_id": book.dispensed}, "pupil-dispensed"),
        ({**first.entry(), "pupil_id": people.student.id}, "pupil-not-in-class"),
        ({**first.entry(), "pupil_id": NOBODY}, "pupil-not-in-class"),
        ({**first.entry(), "number": 9}, "control-unknown"),
    ]
    answer = await rabat.put(book.entries, batch(*(row for row, _ in rows)), token=teacher, key=new_key())
    assert slugs(answer) == [verdict for _, verdict in rows]
    results = answer.json()["results"]
    assert [(each["pupil_id"], each["number"]) for each in results] == [
        (row["pupil_id"], row["number"]) for row, _ in rows
    ]
    assert results[0] == {
        "pupil_id": first.pupil,
        "number": 1,
        "status": "accepted",
        "version": first.version + 1,
    }
    assert results[2]["current"] == third.version
    assert (answer.headers["cache-control"], answer.headers.get("massar-replayed")) == ("no-store", None)
    # The good rows stand, the others changed nothing.
    assert await held(rabat, book, teacher, first) == ("13.25", first.version + 1)
    assert (await held(rabat, book, teacher, second))[0] is None
    assert (await held(rabat, book, teacher, third))[1] == third.version


@pytest.mark.parametrize("language", ["ar", "fr", "en"])
async def test_a_row_is_rejected_in_the_callers_language(
    language: str, book: Book, teacher: str, rabat: Line
) -> None:
    entry = {"pupil_id": NOBODY, "number": 1, "mark": "10.00", "state": "marked", "version": 0}
    answer = await rabat.put(
        book.entries, batch(entry), token=teacher, key=new_key(), accept_language=f"{language};q=0.9, de"
    )
    kind = PROBLEMS["pupil-not-in-class"]
    assert answer.headers["content-language"] == language
    assert answer.json()["results"][0]["problem"] == {
        "type": "https://massar.example/problems/pupil-not-in-class",
        "title": kind.title(language),
        "status": 422,
        "detail": ADVICE[kind.advice][language],
        "slug": "pupil-not-in-class",
    }


async def test_a_replay_is_told_in_the_language_of_who_asks_again(
    book: Book, teacher: str, rabat: Line
) -> None:
    entry = {"pupil_id": NOBODY, "number": 1, "mark": "10.00", "state": "marked", "version": 0}
    key = new_key()
    for language in ("fr", "ar"):
        answer = await rabat.put(book.entries, batch(entry), token=teacher, key=key, accept_language=language)
        (row,) = answer.json()["results"]
        assert row["problem"]["title"] == PROBLEMS["pupil-not-in-class"].title(language)


def _too_many(cell: Cell) -> Any:
    return batch(cell.entry(), *({**cell.entry(), "number": number} for number in range(10, 70)))


BAD_ENVELOPES: dict[str, Any] = {
    "61 rows": _too_many,
    "a cell twice": lambda cell: batch(cell.entry("11.00"), cell.entry("12.00")),
    "no rows": lambda _: batch(),
    "an unknown field": lambda cell: {**batch(cell.entry()), "force": True},
    "an unknown field in a row": lambda cell: batch({**cell.entry(), "comment": "bien"}),
    "a row without a version": lambda cell: batch(
        {name: value for name, value in cell.entry().items() if name != "version"}
    ),
    "a mark that is a number": lambda cell: batch(cell.entry() | {"mark": 13.25}),
    "an unknown state": lambda cell: batch(cell.entry(state="excused")),
    "a version below zero": lambda cell: batch(cell.entry(version=-1)),
    "a list": lambda cell: [cell.entry()],
}


@pytest.mark.parametrize("envelope", BAD_ENVELOPES)
async def test_a_bad_envelope_writes_nothing(
    envelope: str, book: Book, untouched: Cell, teacher: str, rabat: Line
) -> None:
    answer = await rabat.put(book.entries, BAD_ENVELOPES[envelope](untouched), token=teacher, key=new_key())
    assert outcome(answer) == (400, "bad-request")
    assert (await held(rabat, book, teacher, untouched))[1] == untouched.version


async def test_what_is_no_json_is_told(book: Book, teacher: str, rabat: Line) -> None:
    headers = {"idempotency-key": new_key(), "content-type": "application/json"}
    answer = await rabat.ask("PUT", book.entries, token=teacher, content=b"{", headers=headers)
    assert (outcome(answer), answer.json()["pointer"]) == ((400, "bad-request"), "/")


async def test_sixty_rows_are_not_too_many(book: Book, untouched: Cell, teacher: str, rabat: Line) -> None:
    rows = [{**untouched.entry(), "number": number} for number in range(10, 70)]
    answer = await rabat.put(book.entries, batch(*rows), token=teacher, key=new_key())
    assert slugs(answer) == ["control-unknown"] * 60


async def test_a_locked_gradebook_says_so(people: People, mint: Mint, rabat: Line) -> None:
    """The sample teacher's second session is not open yet."""
    sample = people.teacher
    path = f"/v1/gradebooks/{sample.class_id}/{sample.subject}/2"
    token = mint.token("teacher", sample.id)
    assert (await rabat.get(path, token)).json()["locked"] is True
    entry = {"pupil_id": people.student.id, "number": 1, "mark": "10.00", "state": "marked", "version": 0}
    answer = await rabat.put(f"{path}/entries", batch(entry), token=token, key=new_key())
    assert outcome(answer) == (409, "gradebook-locked")


# Once per key


async def test_a_write_without_a_key_is_refused(
    book: Book, untouched: Cell, teacher: str, rabat: Line
) -> None:
    for key in ({}, {"idempotency-key": ""}, {"idempotency-key": '""'}):
        answer = await rabat.ask(
            "PUT", book.entries, token=teacher, payload=batch(untouched.entry()), headers=key
        )
        assert outcome(answer) == (400, "idempotency-key-required")


@pytest.mark.parametrize("keys", [["k" * 129], ["a", "b"], ["a\tb"], ['"a"b"']])
async def test_a_key_of_another_form_is_refused(
    keys: list[str], book: Book, untouched: Cell, teacher: str, rabat: Line
) -> None:
    headers = [("idempotency-key", key) for key in keys]
    answer = await rabat.ask(
        "PUT", book.entries, token=teacher, payload=batch(untouched.entry()), headers=headers
    )
    assert outcome(answer) == (400, "bad-request")


async def test_a_repeated_write_is_answered_with_the_same_bytes_by_every_worker(
    book: Book, cell: Cell, teacher: str, everywhere: tuple[Line, ...]
) -> None:
    payload, key = batch(cell.entry("14.75")), "k" * 120 + new_key()[:8]
    first = await everywhere[0].put(book.entries, payload, token=teacher, key=key)
    assert (slugs(first), first.headers.get("massar-replayed")) == (["accepted"], None)
    for line in everywhere:
        again = await line.put(book.entries, payload, token=teacher, key=f'"{key}"')
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["massar-replayed"] == "1"
    assert await held(everywhere[0], book, teacher, cell) == ("14.75", cell.version + 1)


async def test_a_refusal_is_repeated_too(people: People, mint: Mint, rabat: Line) -> None:
    sample, key = people.teacher, new_key()
    path = f"/v1/gradebooks/{sample.class_id}/{sample.subject}/2/entries"
    entry = {"pupil_id": people.student.id, "number": 1, "mark": "10.00", "state": "marked", "version": 0}
    token = mint.token("teacher", sample.id)
    answers = [await rabat.put(path, batch(entry), token=token, key=key) for _ in range(2)]
    assert [outcome(answer) for answer in answers] == [(409, "gradebook-locked")] * 2


async def test_a_key_is_good_for_one_payload(
    book: Book, cell: Cell, teacher: str, everywhere: tuple[Line, ...]
) -> None:
    key = new_key()
    await everywhere[0].put(book.entries, batch(cell.entry("11.00")), token=teacher, key=key)
    for line in everywhere:
        answer = await line.put(book.entries, batch(cell.entry("12.00")), token=teacher, key=key)
        assert outcome(answer) == (422, "idempotency-key-reused")
    assert (await held(everywhere[0], book, teacher, cell))[0] == "11.00"


async def test_a_key_belongs_to_who_used_it(
    book: Book, cell: Cell, teacher: str, mint: Mint, rabat: Line
) -> None:
    key = new_key()
    mine = await rabat.put(book.entries, batch(cell.entry()), token=teacher, key=key)
    theirs = await rabat.put(
        f"/v1/gradebooks/{book.class_id}/{book.colleagues_subject}/1/entries",
        batch({**cell.entry(), "number": 9}),
        token=mint.token("teacher", book.colleague),
        key=key,
    )
    assert (slugs(mine), slugs(theirs)) == (["accepted"], ["control-unknown"])
    assert theirs.headers.get("massar-replayed") is None


async def test_a_key_belongs_to_the_route_it_was_used_on(
    book: Book, cell: Cell, teacher: str, rabat: Line
) -> None:
    key = new_key()
    await rabat.put(book.entries, batch(cell.entry()), token=teacher, key=key)
    task = {"subject": book.subject, "text": "Courir", "due_on": "2027-06-01"}
    answer = await rabat.post(f"/v1/classes/{book.class_id}/homework", task, token=teacher, key=key)
    assert (answer.status_code, answer.headers.get("massar-replayed")) == (201, None)


async def test_of_writes_at_once_under_one_key_one_has_an_effect(
    book: Book, cell: Cell, teacher: str, everywhere: tuple[Line, ...]
) -> None:
    payload, key = batch(cell.entry("9.50")), new_key()
    answers = await asyncio.gather(
        *(line.put(book.entries, payload, token=teacher, key=key) for line in everywhere)
    )
    done = {answer.content for answer in answers if answer.status_code == 200}
    others = {outcome(answer) for answer in answers if answer.status_code != 200}
    assert len(done) == 1
    assert others <= {(409, "idempotency-key-in-progress")}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
    assert await held(everywhere[0], book, teacher, cell) == ("9.50", cell.version + 1)


async def test_of_writes_at_once_under_different_keys_one_wins_the_version(
    book: Book, cell: Cell, teacher: str, everywhere: tuple[Line, ...]
) -> None:
    marks = [f"{number:.2f}" for number in range(len(everywhere))]
    answers = await asyncio.gather(
        *(
            line.put(book.entries, batch(cell.entry(mark)), token=teacher, key=new_key())
            for line, mark in zip(everywhere, marks, strict=True)
        )
    )
    verdicts = [slugs(answer)[0] for answer in answers]
    assert sorted(verdicts) == ["accepted", *["version-conflict"] * (len(everywhere) - 1)]
    winner = marks[verdicts.index("accepted")]
    assert await held(everywhere[0], book, teacher, cell) == (winner, cell.version + 1)


# On the family's next page


async def shown_mark(line: Line, book: Book, cell: Cell, token: str) -> str | None:
    """The mark as the family reads it."""
    subjects = (await line.get(f"/v1/pupils/{cell.pupil}/grades", token)).json()["subjects"]
    marks = next(each["marks"] for each in subjects if each["code"] == book.subject)
    found: str | None = next(mark["mark"] for mark in marks if mark["number"] == cell.number)
    return found


async def test_a_mark_is_on_the_parents_next_page_here_and_soon_everywhere(
    book: Book, cell: Cell, teacher: str, mint: Mint, everywhere: tuple[Line, ...]
) -> None:
    parent = mint.token("parent", cell.guardian)
    for line in everywhere:  # warm, so that there is something to outdate
        await shown_mark(line, book, cell, parent)
    for turn, line in enumerate(everywhere):
        mark = f"1{turn}.25"
        entry = cell.entry(mark, version=cell.version + turn)
        answer = await line.put(book.entries, batch(entry), token=teacher, key=new_key())
        answered_at = time.monotonic()
        assert slugs(answer) == ["accepted"]
        assert await shown_mark(line, book, cell, parent) == mark, "the next read at the same worker"

        async def shown(other: Line, mark: str = mark) -> bool:
            return await shown_mark(other, book, cell, parent) == mark

        tell("a mark", await heard_everywhere(everywhere, shown, what="the mark is shown", since=answered_at))
