"""The monthly drill as docs/operating.md asks for it, in a real country at work: twice a moment's wait, no error."""

from __future__ import annotations

import re

from datacenters.record import Phase
from tests.journeys.breaking import Broken, Load, Marks, audited, declared
from tests.journeys.lines import lines

ANNOUNCED = ("--reason", "announced to all schools", "--rest-s", "1")
PAUSE = re.compile(r": writes waited \d+\.\d+ s")


async def test_an_announced_drill_goes_there_and_back_and_leaves_the_country_ready(worn: Broken) -> None:
    country = worn.country
    before = await declared(country.addresses.etcd)
    code, said = await country.massar("dc", "drill", "--only-check")
    assert code == 0, said

    marks, load = Marks(worn, worn.people.parent.children[0]), Load()
    async with lines(worn.only("rabat"), workers=1) as (rabat,):
        await marks.learn(rabat)

        async def write() -> None:
            answer = await load.timed(lambda: marks.enter(rabat))
            load.expect(answer.status_code == 200, f"mark: {answer.status_code} {answer.text}")

        async with load.running(write):
            await load.more(5)
            code, said = await country.massar("dc", "drill", "--yes", *ANNOUNCED)
            await load.more(5)
    print(f"\n{said}")
    assert (code, said.splitlines()[-1]) == (0, "drill: ok"), said
    assert len(PAUSE.findall(said)) == 2, said
    assert load.wrong == []

    after = await declared(country.addresses.etcd)
    assert (after.active, after.epoch, after.phase) == (before.active, before.epoch + 2, Phase.ACTIVE)
    ordered = [
        row.after for row in await audited(country.addresses.etcd) if row.after.phase is Phase.FREEZING
    ]
    assert {record.decided_by.partition(":")[0] for record in ordered} == {"operator"}
    assert [record.reason for record in ordered[-2:]] == [
        "drill: announced to all schools",
        "drill, the way back: announced to all schools",
    ]

    code, said = await country.massar("dc", "drill", "--only-check")
    assert code == 0, f"the country could not take a loss: {said}"
