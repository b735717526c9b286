"""What the edge is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import msgspec
import pytest

from bench import variants
from gateway import asgi
from gateway.decisions import Decision, Decisions
from routes.endpoint import CachedRead, Source
from routes.timetables import TIMETABLE


async def test_the_floor_gives_two_ready_messages_of_the_wanted_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variants.FLOOR_BODY_VARIABLE, "1449")
    answer, sent = variants.floor(), []

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in range(2):
        await answer({"type": "http"}, None, send)
    start, body = sent[:2]
    assert start["status"] == 200
    assert (b"content-length", b"1449") in start["headers"]
    assert body["body"] == variants.floor_body(1449)
    assert sent[2:] == [start, body]


async def test_the_floor_leaves_the_lifespan_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variants.FLOOR_BODY_VARIABLE, "1")

    async def send(_message: Any) -> None:
        raise AssertionError

    await variants.floor()({"type": "lifespan"}, None, send)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mapping[str, str]], Source]]:
    """Where timetables come from, as a variant that the test builds has it; as it was behind the test."""
    monkeypatch.setattr(asgi, "build", lambda: None)
    monkeypatch.setattr(Decisions, "keep", Decisions.keep)
    read = TIMETABLE.read
    assert isinstance(read, CachedRead)
    as_it_was = read.source

    def ask(params: Mapping[str, str]) -> Source:
        return read.source(params)

    yield ask
    msgspec.structs.force_setattr(read, "source", as_it_was)


def test_one_weeks_timetables_are_keys_of_their_own_each_time(
    source: Callable[[Mapping[str, str]], Source],
) -> None:
    kept, changing = ({"class_id": "k", "week": week} for week in ("2026-W47", variants.CHANGING_WEEK))
    before = [source(kept), source(changing)]
    variants.one_week_changing()
    assert [source(kept) for _ in range(2)] == [before[0]] * 2
    first, second = source(changing), source(changing)
    assert len({before[1].resource, first.resource, second.resource}) == 3
    assert first._replace(resource="") == second._replace(resource="") == before[1]._replace(resource="")


def test_a_read_that_never_hits_has_a_key_of_its_own_each_time(
    source: Callable[[Mapping[str, str]], Source],
) -> None:
    variants.never_twice()
    params = {"class_id": "k", "week": "2026-W47"}
    assert source(params).resource != source(params).resource


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("variant", "anew", "again"),
    [
        pytest.param(
            variants.never_twice,
            ("/v1/pupils/p/timetable", b""),
            ("/v1/pupils/p/grades", b""),
            id="every-one",
        ),
        pytest.param(
            variants.one_week_changing,
            ("/v1/pupils/p/timetable", b"week=" + variants.CHANGING_WEEK.encode()),
            ("/v1/pupils/p/timetable", b""),
            id="one-week",
        ),
    ],
)
def test_a_read_with_a_key_of_its_own_each_time_is_decided_anew(
    variant: Callable[[], object],
    anew: tuple[str, bytes],
    again: tuple[str, bytes],
) -> None:
    variant()
    decisions = Decisions()
    for path, query in (anew, again):
        decisions.keep("session", path, query, cast("Decision", object()))
    assert decisions.get(("session", *anew)) is None
    assert decisions.get(("session", *again)) is not None


def test_a_timetable_of_tier_2_is_a_pupils_own(source: Callable[[Mapping[str, str]], Source]) -> None:
    variants._key_timetables(lambda params: params["pupil_id"])
    one, other, again = (
        source({"class_id": "k", "week": "2026-W47", "pupil_id": pupil}) for pupil in ("a", "b", "a")
    )
    assert one == again != other
