"""What stands behind the peers says the same bytes, their tag, and whether they may be kept."""

from __future__ import annotations

from bench.peers.probing import probe
from bench.peers.scenarios import raw
from tests.bench.peers.conftest import BODIES, Serve

PATH = "/v1/pupils/a/timetable"


async def test_every_path_has_its_body_and_its_own_tag(origin: Serve) -> None:
    async with origin() as port:
        first, second = await probe(port, [raw(path, "t") for path in BODIES])
    assert [first.body, second.body] == list(BODIES.values())
    assert first.fields[b"etag"] != second.fields[b"etag"]
    assert first.fields[b"cache-control"] == b"public, max-age=3600"


async def test_what_has_not_changed_is_not_sent_again(origin: Serve) -> None:
    async with origin() as port:
        (whole,) = await probe(port, [raw(PATH, "t")])
        same, other = await probe(
            port, [raw(PATH, "t", etag=whole.fields[b"etag"]), raw(PATH, "t", etag=b'"another"')]
        )
    assert (same.status, same.body) == (304, b"")
    assert (other.status, other.body) == (200, BODIES[PATH])


async def test_what_takes_its_time_may_not_be_kept(origin: Serve) -> None:
    async with origin(delay_s=0.001) as port:
        (said,) = await probe(port, [raw(PATH, "t")])
    assert (said.status, said.body, said.fields[b"cache-control"]) == (200, BODIES[PATH], b"no-store")


async def test_a_path_without_an_answer_is_not_found_and_the_connection_goes_on(origin: Serve) -> None:
    async with origin() as port:
        missing, there = await probe(port, [raw("/v1/else", "t"), raw(PATH, "t")])
    assert (missing.status, there.status) == (404, 200)
