"""A person's visit as it is measured, to a real gateway behind real TLS, and reads that are not what they are called."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from auth import keys
from bench import visits
from bench.client import Unexpected
from bench.peers import certificate
from bench.peers.serving import Peer
from bench.phones import Person, Signer, people
from bench.results_estimate import Kind
from bench.visits import Visits
from sandbox import processes
from sandbox.postgres import ACCOUNTS
from tests.bench.peers.test_probing import serving
from tests.countries import RunningCountry

KNOWN, UNSEEN = 4, 12


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("KNOWN", KNOWN),
        ("PHONES", 2),
        ("VISITS", 10),
        ("RATES", dict.fromkeys(Kind, 10.0)),
    ):
        monkeypatch.setattr(visits, name, value)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65_536):
        writer.write(some)
    writer.close()


@asynccontextmanager
async def ending_tls(url: str, shown: Path) -> AsyncIterator[int]:
    """What HAProxy does in a measurement: TLS ends here, and the gateway hears the rest."""
    there = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_gateway, to_gateway = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(carry(reader, to_gateway), carry(from_gateway, writer), return_exceptions=True)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(shown)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def pupils(country: RunningCountry) -> AsyncIterator[tuple[Signer, list[Person]]]:
    """Some of the country's, whose sessions go with the block."""
    accounts = country.table().databases["rabat"][ACCOUNTS]
    signer = Signer(country.directory / "keys" / "access")
    try:
        yield signer, await people(accounts, signer, count=KNOWN + UNSEEN)
    finally:
        connection = await asyncpg.connect(accounts, ssl=False)
        await connection.execute("DELETE FROM sessions WHERE device_id LIKE 'bench-%'")
        await connection.close()


async def test_a_round_measures_every_kind_at_a_real_gateway(
    country: RunningCountry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    # Its gateway has two workers, and whoever did not answer before does not hold the answer.
    monkeypatch.setattr(visits, "OTHERWISE_MAX", 1.0)
    shown = certificate.make(tmp_path / "pem")
    gateway = country.addresses.gateways["rabat"]
    async with pupils(country) as (signer, who), ending_tls(gateway, shown) as port:
        first_tokens = [person.refresh_token for person in who]
        # The rest of its country takes more while nobody asks than some warm reads do.
        worker = copy(country.process)
        worker.who = next(
            row.who for row in country.table().processes if (row.kind, row.site) == ("gateway", "rabat")
        )
        measured = Visits(Peer(port, [], shown), worker, signer, who, seconds=0.4, core=0)
        done = await measured.round()
    assert set(done.parts) == set(Kind)
    assert done.argon2id_s > 0.01
    assert done.parts[Kind.SIGN_IN].cpu_us > done.parts[Kind.WARM].cpu_us
    assert done.visits_per_s > 0
    assert done.busy > 0
    assert len({person.access_token for person in who if person.access_token}) > KNOWN
    assert sum(person.refresh_token != old for person, old in zip(who, first_tokens, strict=True)) > KNOWN


async def test_reads_that_are_not_what_they_are_called_end_the_measurement(
    tmp_path: Path, small: None
) -> None:
    shown = certificate.make(tmp_path / "pem")
    keys.generate(tmp_path / "keys")
    running = processes.spawn(["/bin/cat"], name="cat", log=tmp_path / "log")
    try:
        async with serving(shown) as port:
            measured = Visits(
                Peer(port, [], shown), running, Signer(tmp_path / "keys"), [], seconds=0.1, core=0
            )
            person = Person("a" * 22, "a@taalim.ma", "bench-0", "")
            phone = await measured._connect()
            with pytest.raises(Unexpected, match="3 of 3 reads were answered otherwise"):
                await measured._offered(lambda _number: measured._warm(phone, person), count=3, rate=10.0)
            await phone.close()
    finally:
        running.kill()
