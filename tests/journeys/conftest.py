"""What the journeys share: the country's people and records, and a line to every worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest

from sandbox.postgres import ACCOUNTS, RECORDS
from tests.countries import RunningCountry
from tests.gateway.people import PUPIL
from tests.journeys.asking import Asker
from tests.journeys.books import Book, Cell, find_book, find_cells
from tests.journeys.breaking import Broken, breakable
from tests.journeys.lines import Line, lines
from tests.journeys.people import Mint, People, find_people
from tests.journeys.telling import ToldDemo, told_demo
from tests.journeys.wayward import AT_ONCE_MAX, Ground, Standing, ground_in, standing_gateway

# Files that share a country of the package stand together at its end, so that it runs no longer than it is needed.
SHARING = (
    "test_fleets_over_http",
    "test_seal_rotation",
    "test_wayward_origins",
    "test_wayward_clients",
    "test_cache_attacks",  # these five: `ground`, and the last three the gateway that stands on it
    "test_no_personal_data",
    "test_site_loss",  # these two: `told`
    "test_draining",
    "test_old_datacenter",
    "test_valkey_away",
    "test_drill",  # these four: `worn`, whose epoch this one raises
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move those files behind the others of this folder; everything else keeps its place."""
    here = Path(__file__).parent
    places = [at for at, item in enumerate(items) if item.path.parent == here]
    ordered = sorted((items[at] for at in places), key=_turn)
    for at, item in zip(places, ordered, strict=True):
        items[at] = item


def _turn(item: pytest.Item) -> int:
    return SHARING.index(item.path.stem) if item.path.stem in SHARING else -1


@pytest.fixture(scope="session")
async def records(country: RunningCountry) -> AsyncIterator[asyncpg.Connection]:
    """Rabat's school records, as the ministry sees them."""
    connection = await asyncpg.connect(country.table().databases["rabat"][RECORDS], ssl=False)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def accounts(country: RunningCountry) -> AsyncIterator[asyncpg.Connection]:
    """Rabat's accounts."""
    connection = await asyncpg.connect(country.table().databases["rabat"][ACCOUNTS], ssl=False)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def people(country: RunningCountry, records: asyncpg.Connection) -> People:
    """Who acts."""
    return await find_people(country, records)


@pytest.fixture(scope="session")
def mint(country: RunningCountry) -> Mint:
    """Tokens for anybody."""
    return Mint(country.directory)


@pytest.fixture
async def everywhere(country: RunningCountry) -> AsyncIterator[tuple[Line, ...]]:
    """A line to every worker of both sites, Rabat's first."""
    async with lines(country.addresses.gateways) as found:
        yield found


@pytest.fixture
async def rabat(country: RunningCountry) -> AsyncIterator[Line]:
    """A line to one worker of Rabat."""
    async with lines({"rabat": country.addresses.gateways["rabat"]}, workers=1) as (line,):
        yield line


@pytest.fixture(scope="package")
async def worn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broken]:
    """A country for those who break what others can do without: Marrakech's gateway may be gone, and every Valkey."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASSAR_DRAIN_S", "1")
        async with breakable(tmp_path_factory.mktemp("worn")) as started:
            yield started


@pytest.fixture(scope="package")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ToldDemo]:
    """A demo that has lost Rabat and stays up at Marrakech, for those who look at what is left."""
    async with told_demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="package")
async def ground(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> AsyncIterator[Ground]:
    """An etcd and keys for gateways whose datacenters are servers of the test."""
    async with ground_in(tmp_path_factory.mktemp("ground"), logs) as made:
        yield made


@pytest.fixture(scope="package")
async def own_gateway(ground: Ground, logs: Path) -> AsyncIterator[Standing]:
    """A gateway of one worker in processes of its own, which several files share; it does little at once."""
    async with standing_gateway(ground, logs, in_flight_max=str(AT_ONCE_MAX)) as made:
        yield made


@pytest.fixture
async def standing(own_gateway: Standing) -> Standing:
    """That gateway, its datacenters as new and asked again: what it holds stays, so ask it for what nobody has."""
    own_gateway.heal()
    await own_gateway.well_again("/v1/me", PUPIL)
    own_gateway.heal()
    return own_gateway


@pytest.fixture(scope="session")
def days() -> Iterator[str]:
    """Days of the school year, each of which makes an entry that no test has asked for."""
    return iter((date(2026, 9, 3) + timedelta(days=gone)).isoformat() for gone in range(300))


@pytest.fixture
def fresh_day(days: Iterator[str]) -> str:
    """A day that nobody has asked about."""
    return next(days)


@pytest.fixture(scope="module")
async def book(records: asyncpg.Connection, people: People) -> Book:
    """An open gradebook, not of the sample teacher's class."""
    return await find_book(records, people)


@pytest.fixture(scope="module")
async def cells(records: asyncpg.Connection, book: Book) -> Iterator[Cell]:
    """Cells of the book as they stand, each of another pupil."""
    return await find_cells(records, book)


@pytest.fixture
def cell(cells: Iterator[Cell]) -> Cell:
    """A cell that no other test of the module touches."""
    return next(cells)


@pytest.fixture(scope="module")
def untouched(cells: Iterator[Cell]) -> Cell:
    """A cell that no test of the module may change."""
    return next(cells)


@pytest.fixture(scope="module")
def teacher(book: Book, mint: Mint) -> str:
    """The token of the book's teacher."""
    return mint.token("teacher", book.teacher)


@pytest.fixture
def asker(people: People, mint: Mint) -> Asker:
    return Asker(people, mint)
