"""What a fetch makes of an entry."""

from __future__ import annotations

import msgspec
import pytest

from cache.entries import Entry, make_etag
from cache.reading import Fetched, made_of
from tests.cache.building import KEY, NOW, TAG, entry

FETCHED = Fetched(
    body=b"new", epoch=2, position=(1, 200), origin_etag='"o2"', last_modified="Wed", status=200
)


def made(fetched: Fetched, previous: Entry | None = None) -> Entry:
    return made_of(fetched, key=KEY, tags=("*", TAG), generations=(4, 5), begun_at=NOW, previous=previous)


def test_a_new_body_makes_a_new_entry_under_the_generations_read_before() -> None:
    one = made(FETCHED, previous=entry(b"old"))
    assert (one.body, one.etag) == (b"new", make_etag("family", b"new"))
    assert (one.tags, one.generations) == (("*", TAG), (4, 5))
    assert (one.epoch, one.position, one.origin_etag, one.last_modified) == (2, (1, 200), '"o2"', "Wed")
    assert one.stored_at == NOW


def test_not_modified_keeps_the_body_and_takes_the_rest() -> None:
    previous = msgspec.structs.replace(
        entry(b"old", stored_at=NOW - 90), origin_etag='"o1"', last_modified="Tue"
    )
    fetched = Fetched(body=b"", epoch=2, position=(1, 200), not_modified=True)
    one = made(fetched, previous)
    assert (one.body, one.etag, one.origin_etag, one.last_modified) == (b"old", previous.etag, '"o1"', "Tue")
    assert (one.stored_at, one.epoch, one.position, one.generations) == (NOW, 2, (1, 200), (4, 5))


def test_age_at_the_origin_counts() -> None:
    assert made(msgspec.structs.replace(FETCHED, age_s=12.5)).stored_at == NOW - 12.5


def test_not_modified_out_of_nothing_is_a_fault() -> None:
    with pytest.raises(ValueError, match="nothing to revalidate"):
        made(msgspec.structs.replace(FETCHED, not_modified=True))
