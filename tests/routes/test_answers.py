"""What answers share: conditional requests, bodies, keys that make repeating safe."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scope import Message
from routes.answers import composed, decode, etag_matches
from routes.endpoint import Answered, BadRequest
from tests.gateway.people import CLASS, MATH, PUPIL, TEACHER
from tests.gateway.world import World, answered, scope_of
from tests.routes.writing import forwarded, send

ENTRIES = f"/v1/gradebooks/{CLASS}/{MATH}/1/entries"
BATCH = {"entries": [{"pupil_id": PUPIL, "number": 1, "mark": "14.50", "state": "marked", "version": 3}]}
TAGS = st.from_regex(r"\A[A-Za-z0-9_-]{1,12}\Z")


@given(tag=TAGS, others=st.lists(TAGS, max_size=4), place=st.integers(0, 4), weak=st.booleans())
def test_a_tag_is_found_wherever_it_stands_in_the_list(
    tag: str, others: list[str], place: int, *, weak: bool
) -> None:
    listed = [f'"{other}"' for other in others if other != tag]
    assert not etag_matches(", ".join(listed), f'"{tag}"') or not listed
    listed.insert(place, f'W/"{tag}"' if weak else f'"{tag}"')
    assert etag_matches(", ".join(listed), f'"{tag}"')
    assert etag_matches(" , ".join(listed), f'"{tag}"')


def test_no_condition_matches_nothing_and_a_star_everything() -> None:
    assert not etag_matches(None, '"x"')
    assert not etag_matches("", '"x"')
    assert not etag_matches("x", '"x"')
    assert not etag_matches('"X"', '"x"')
    assert etag_matches("*", '"x"')


def part(**changes: object) -> Answered:
    plain = Answered(body=b"{}", etag=b'"x"', cache_status="", age_s=0.0, mode="normal")
    return msgspec.structs.replace(plain, **changes)


def test_a_composed_answer_is_tagged_by_its_bytes_and_as_old_as_its_oldest_part() -> None:
    one = composed(b'{"a":1}', [part(), part(mode="read-only", data_age_s=7.0), part(data_age_s=3.0)])
    assert (one.mode, one.data_age_s) == ("read-only", 7.0)
    assert one.etag == composed(b'{"a":1}', []).etag
    assert one.etag != composed(b'{"a":2}', []).etag
    assert composed(b"{}", [part()]).data_age_s is None
    assert composed(b"{}", []).mode == "normal"


class Row(msgspec.Struct, forbid_unknown_fields=True):
    number: Annotated[int, msgspec.Meta(ge=0)]


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    entries: list[Row]
    by_name: dict[str, Row] = {}


BATCHES = msgspec.json.Decoder(Batch)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", "/"),
        (b"[]", "/"),
        (b"{}", "/"),
        (b'{"entries":7}', "/entries"),
        (b'{"entries":[{"number":1},{"number":-1}]}', "/entries/1/number"),
        (b'{"entries":[{"number":1,"salma":2}]}', "/entries/0"),
        (b'{"entries":[],"by_name":{"salma":{"number":"x"}}}', "/by_name/*/number"),
        (b'{"entries":[],"salma":1}', "/"),
        (b'{"entries":[{"number":1,"x - at `$[0].SALMA":2}]}', "/entries/0"),
        (b'{"entries":[],"x - at `$.<b>Salma</b>":1}', "/"),
        (b'{"entries":[],"x - at `$.' + b"y" * 4000 + b'":1}', "/"),
    ],
)
def test_the_part_at_fault_is_named_in_words_of_our_own(body: bytes, pointer: str) -> None:
    with pytest.raises(BadRequest) as refused:
        decode(BATCHES, body)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("headers", "slug"),
    [
        ([], "idempotency-key-required"),
        ([""], "idempotency-key-required"),
        (["   "], "idempotency-key-required"),
        (['""'], "idempotency-key-required"),
        (["x" * 129], "bad-request"),
        (['"' + "x" * 129 + '"'], "bad-request"),
        (["one", "two"], "bad-request"),
        (["one", "one"], "bad-request"),
        (["a b"], "bad-request"),
        (['"'], "bad-request"),
        (['"open'], "bad-request"),
        (['a"b'], "bad-request"),
        (["a\\b"], "bad-request"),
        (["\u00e9"], "bad-request"),
        (["a\tb"], "bad-request"),
    ],
)
async def test_a_write_without_a_usable_key_goes_nowhere(
    shared: World, headers: list[str], slug: str
) -> None:
    pairs = [
        (b"authorization", shared.authorization(TEACHER).encode()),
        (b"content-type", b"application/json"),
        *((b"idempotency-key", value.encode("latin-1")) for value in headers),
    ]
    body: Message = {"type": "http.request", "body": msgspec.json.encode(BATCH), "more_body": False}
    answer = await answered(shared.app, scope_of("PUT", ENTRIES, headers=pairs), [body])
    assert (answer.status, answer.slug) == (400, slug)
    assert forwarded(shared) == []


@pytest.mark.parametrize(
    ("given_key", "sent"),
    [
        ("plain", "plain"),
        ('"quoted"', "quoted"),
        ("  spaced  ", "spaced"),
        ("x" * 128, "x" * 128),
        ('"' + "x" * 128 + '"', "x" * 128),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("!#$%&'*+-.^_`|~:/", "!#$%&'*+-.^_`|~:/"),
    ],
)
async def test_a_key_is_the_same_quoted_or_bare(shared: World, given_key: str, sent: str) -> None:
    assert (await send(shared, "PUT", ENTRIES, BATCH, key=given_key)).status_code == 200
    assert [seen.headers["idempotency-key"] for seen in shared.rabat.seen if seen.method == "PUT"] == [sent]


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/xml", "text/json", "application/problem+json", "json"],
)
async def test_a_body_that_does_not_say_it_is_json_is_not_read(
    shared: World, content_type: str | None, fresh_key: str
) -> None:
    answer = await send(shared, "PUT", ENTRIES, BATCH, key=fresh_key, content_type=content_type)
    assert (answer.status_code, answer.json()["slug"]) == (415, "unsupported-media-type")
    assert forwarded(shared) == []


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", " application/json ;x=y"]
)
async def test_json_may_be_said_in_any_spelling(shared: World, content_type: str, fresh_key: str) -> None:
    answer = await send(shared, "PUT", ENTRIES, BATCH, key=fresh_key, content_type=content_type)
    assert answer.status_code == 200
