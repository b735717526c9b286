"""The load of the failover figures: what it counts as what, and that it keeps the phones' rule."""

from __future__ import annotations

import pytest

from bench import teachers
from bench.teachers import Cell, Sheet, Teachers
from tests.bench.door import Came, Said, door
from tests.waiting import eventually

SOON_S = 5.0
BOOK = "/v1/gradebooks/class/subject/1"


def sheet(number: int = 0) -> Sheet:
    return Sheet(path=BOOK, token="t", door=0, cells=[Cell(f"p{number}", 1, 3), Cell(f"q{number}", 2, 8)])


def accepts(came: Came) -> Said:
    verdicts = [{"status": "accepted", "version": entry["version"] + 1} for entry in came.body["entries"]]
    return Said(body={"results": verdicts}, headers={"massar-epoch": "7"})


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "AGAIN_S", 0.001)
    monkeypatch.setattr(teachers, "READ_EVERY_S", 0.001)


async def test_an_acknowledged_mark_carries_the_next_version_and_its_epoch() -> None:
    async with door(accepts) as here:
        load, one = Teachers({"rabat": here}, [], (), rate=1), sheet()
        await load.enter(one)
        await load.enter(one)
    assert [cell.version for cell in one.cells] == [5, 10]
    assert load.tally.marks == 4
    assert [(done.epoch, done.site, done.tries) for done in load.tally.acknowledged] == [(7, "rabat", 1)] * 2
    assert load.tally.errors == 0


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (Said(503, {"slug": "switching"}), {"switching": 1}),
        (Said(500, "no problem at all"), {"500": 1}),
        (Said(0), {}),
    ],
)
async def test_a_write_goes_on_at_the_other_site_under_the_same_key_and_counts_as_an_error(
    answer: Said, counted: dict[str, int]
) -> None:
    keys: list[str] = []

    def noted(came: Came, said: Said) -> Said:
        keys.append(came.headers["idempotency-key"])
        return said

    async with (
        door(lambda came: noted(came, answer)) as here,
        door(lambda came: noted(came, accepts(came))) as there,
    ):
        load, one = Teachers({"rabat": here, "marrakech": there}, [], (), rate=1), sheet()
        await load.enter(one)
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert one.door == 1  # and stays there
    assert [done.site for done in load.tally.acknowledged] == ["marrakech"]
    assert dict(load.tally.refused) == counted
    assert load.tally.errors == 1


async def test_a_write_that_finds_no_door_open_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "GIVE_UP_S", 0.05)
    async with door(lambda _: Said(503, {"slug": "switching"})) as here:
        load = Teachers({"rabat": here}, [], (), rate=1)
        await load.enter(sheet())
    assert load.tally.given_up == 1
    assert load.tally.acknowledged == []


async def test_marks_are_due_at_their_rate_whatever_becomes_of_the_ones_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with door(lambda _: Said(503, {"slug": "switching"}, {"retry-after": "1"})) as here:
        load = Teachers({"rabat": here}, [sheet(number) for number in range(3)], (), rate=500)
        async with load.running():
            await eventually(
                lambda: load.tally.not_offered > 0 and load.tally.refused["switching"] == 3, within_s=SOON_S
            )
            monkeypatch.setattr(teachers, "GIVE_UP_S", 0.0)  # those under way may end
    assert load.tally.given_up == 3


async def test_a_read_fails_only_when_it_fails_at_both_sites() -> None:
    broken = False

    def there_too(_: Came) -> Said:
        return Said(500, {"slug": "internal"}) if broken else Said()

    async with door(lambda _: Said(0)) as here, door(there_too) as there:
        doors = {"rabat": here, "marrakech": there}
        load = Teachers(doors, [], [("/v1/pupils/p/timetable", "t")], rate=1)
        async with load.running():
            await eventually(lambda: load.tally.reads > 3, within_s=SOON_S)
            assert load.tally.rotated_reads == 1
            assert load.tally.failed_reads == []
            broken = True
            await eventually(lambda: len(load.tally.failed_reads) > 0, within_s=SOON_S)
    assert load.tally.failed_reads[0] == "rabat: no answer"


async def test_the_first_acknowledgement_of_an_epoch_is_found() -> None:
    async with door(accepts) as here:
        load = Teachers({"rabat": here}, [], (), rate=1)
        await load.enter(sheet())
    assert load.first_acknowledged(epoch=8) is None
    assert load.first_acknowledged(epoch=7) is load.tally.acknowledged[0]
