"""Warm answers made ready: once per coding that is asked for, and kept with the entry."""

from __future__ import annotations

import msgspec

from cache.coding import encode
from cache.memory import Held
from gateway.prepared import prepare
from tests.cache.building import NOW, entry

BODY = b'{"lessons":[' + b",".join([b'{"day":1,"subject":"math"}'] * 30) + b"]}"


def held(**changes: object) -> Held:
    one = msgspec.structs.replace(entry(BODY), coded=encode(BODY), **changes)
    return Held(one, key="k", from_s=NOW, until_s=NOW + 1, fresh_until_s=NOW + 1)


def test_a_coding_is_made_ready_once() -> None:
    one = held()
    first = prepare(one, b"br")
    assert prepare(one, b"br;q=0.9") is first
    assert prepare(one, b"gzip") is not first
    assert prepare(one, b"br") is first


def test_nothing_is_made_ready_before_it_is_asked_for() -> None:
    one = held()
    prepare(one, None)
    assert isinstance(one.prepared, dict)
    assert [coding for coding, ready in one.prepared.items() if ready is not None] == ["identity"]


def test_headers_and_bytes_are_of_one_coding() -> None:
    one = held(last_modified="Tue, 17 Nov 2026 16:05:00 GMT")
    plain, coded = prepare(one, None), prepare(one, b"zstd")
    assert plain.body["body"] == BODY
    assert dict(plain.full)[b"content-length"] == str(len(BODY)).encode()
    assert b"content-encoding" not in dict(plain.full)
    assert dict(coded.full)[b"content-encoding"] == b"zstd"
    assert dict(coded.full)[b"content-length"] == str(len(coded.body["body"])).encode()
    assert dict(coded.unchanged)[b"etag"] == coded.etag.encode() != plain.etag.encode()
    assert not {b"content-encoding", b"content-type", b"content-length"} & set(dict(coded.unchanged))
    assert dict(coded.unchanged)[b"last-modified"].startswith(b"Tue")


def test_an_entry_without_codings_is_identity_to_everybody() -> None:
    one = Held(entry(), key="k", from_s=NOW, until_s=NOW + 1, fresh_until_s=NOW + 1)
    assert prepare(one, b"br, gzip, zstd") is prepare(one, None)
