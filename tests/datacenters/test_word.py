"""A word is as old as its question, and none at all below an epoch heard before."""

from __future__ import annotations

import asyncio
import math

from datacenters import record
from datacenters.control import Held
from datacenters.word import Word
from tests.datacenters.worlds import declared


def held(epoch: int, active: str = "rabat") -> Held:
    found = declared(epoch=epoch, active=active)
    return Held(record=found, raw=record.encode(found))


def test_nothing_heard_is_infinitely_old() -> None:
    word = Word(monotonic=lambda: 5.0)
    assert (word.record, word.held, word.age_s()) == (None, None, math.inf)
    word.hear(None, asked_at=5.0)
    assert word.age_s() == math.inf


def test_age_counts_from_the_question() -> None:
    word = Word(monotonic=lambda: 5.0)
    word.hear(held(1), asked_at=4.25)
    assert word.age_s() == 0.75


async def test_who_waits_for_a_change_hears_of_another_record_not_of_a_repeated_one() -> None:
    word = Word()
    word.hear(held(1), asked_at=0.0)
    waiting = [asyncio.create_task(word.changed()) for _ in range(2)]
    word.hear(held(1), asked_at=1.0)
    done, _ = await asyncio.wait(waiting, timeout=0)
    assert not done
    word.hear(held(2), asked_at=2.0)
    await asyncio.gather(*waiting)


def test_a_lower_epoch_is_no_word() -> None:
    word = Word(monotonic=lambda: 10.0)
    word.hear(held(5), asked_at=1.0)
    word.hear(held(4, active="marrakech"), asked_at=9.0)
    assert word.record == held(5).record
    assert word.age_s() == 9.0


def test_a_record_below_an_epoch_that_the_data_knows_is_no_word_whoever_begins_after_it() -> None:
    word = Word(monotonic=lambda: 10.0)
    word.know(3)
    word.know(2)
    assert word.highest == 3
    assert not word.hear(held(2), asked_at=10.0)
    assert (word.record, word.age_s()) == (None, math.inf)
    assert word.hear(held(3), asked_at=10.0)
    assert word.hear(held(4), asked_at=10.0)
    assert word.highest == 4
