"""Workers are told from each other by their request ids, and watched until each answers under the new epoch."""

from __future__ import annotations

import pytest

from bench.workers import Unwatched, watched
from tests.bench.door import Came, Said, door
from tests.waiting import eventually

SOON_S = 5.0
WORKERS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


async def test_each_worker_is_watched_and_says_when_it_follows() -> None:
    epoch = dict.fromkeys(WORKERS, 1)

    def answer(came: Came) -> Said:
        name = WORKERS[came.connection % 3 == 2]  # one worker takes two connections of three
        return Said(headers={"massar-request-id": f"{name}-{1:x}", "massar-epoch": str(epoch[name])})

    async with door(answer) as here, watched([here], "/", "token", each=2) as workers:
        await eventually(lambda: len(workers.seen) == 2 and all(workers.seen.values()), within_s=SOON_S)
        assert workers.followed(2, since=0.0) == []
        epoch[WORKERS[0]] = 2
        await eventually(lambda: len(workers.followed(2, since=0.0)) == 1, within_s=SOON_S)
        epoch[WORKERS[1]] = 2
        await eventually(lambda: len(workers.followed(2, since=0.0)) == 2, within_s=SOON_S)
    assert set(workers.seen) == set(WORKERS)


async def test_a_worker_that_cannot_be_found_ends_the_measurement() -> None:
    def answer(_: Came) -> Said:
        return Said(headers={"massar-request-id": "aaaaaaaaaaaa-1", "massar-epoch": "1"})

    async with door(answer) as here:
        with pytest.raises(Unwatched, match="1 of 2"):
            async with watched([here], "/", "token", each=2):
                raise AssertionError
