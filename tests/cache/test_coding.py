"""Content codings: made only where they save, chosen by the caller's weights and nothing else."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cache.coding import (
    ACCEPT_ENCODING_BYTES_MAX,
    CODED_BYTES_MIN,
    CODINGS,
    IDENTITY,
    MEMO_MAX,
    _compressors,
    _memo,
    accepted,
    choose,
    coded_etag,
    encode,
)

DECODE = {
    "br": brotli.decompress,
    "zstd": lambda coded: zstandard.decompress(coded, max_output_size=10_000_000),
    "gzip": lambda coded: zlib.decompress(coded, 31),
}
LESSONS = b'{"lessons":[' + b",".join([b'{"day":1,"start":"08:30","subject":"math"}'] * 30) + b"]}"


def test_every_coding_of_a_body_is_the_body_again_and_smaller() -> None:
    coded = encode(LESSONS)
    assert [coding for coding, _ in coded] == list(CODINGS)
    for coding, content in coded:
        assert DECODE[coding](content) == LESSONS
        assert len(content) < len(LESSONS) / 2


@given(st.binary(max_size=4096))
def test_whatever_is_kept_decodes_to_the_body_and_saves_a_tenth(body: bytes) -> None:
    for coding, content in encode(body):
        assert DECODE[coding](content) == body
        assert len(content) <= 0.9 * len(body)


def test_no_two_threads_share_a_compressor_and_a_large_body_has_its_own() -> None:
    usual, large = len(LESSONS), 1_000_000
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(_compressors.zstd, usual).result()
    assert _compressors.zstd(usual) is _compressors.zstd(usual)
    assert _compressors.zstd(usual) is not elsewhere
    assert _compressors.zstd(large) is not _compressors.zstd(large)


def test_what_is_small_is_not_coded() -> None:
    assert encode(b"a" * (CODED_BYTES_MIN - 1)) == ()
    assert encode(b"a" * CODED_BYTES_MIN) != ()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ()),
        (b"", ()),
        (b"identity", ()),
        (b"deflate", ()),
        (b"gzip", ("gzip",)),
        (b"GZIP", ("gzip",)),
        (b"gzip, deflate, br, zstd", ("br", "zstd", "gzip")),
        (b"gzip;q=1.0, br;q=0.5", ("gzip", "br")),
        (b"br;q=0, gzip", ("gzip",)),
        (b"br;q=0.0,zstd ; q=0.2", ("zstd",)),
        (b"*", ("br", "zstd", "gzip")),
        (b"*;q=0.1, gzip;q=0.9", ("gzip", "br", "zstd")),
        (b"*;q=0", ()),
        (b"gzip;q=0, *", ("br", "zstd")),
        (b"gzip;q=0.3, identity;q=0.5", ()),
        (b"gzip;q=0.5, identity;q=0.5", ("gzip",)),
        (b"identity;q=0, gzip;q=0.1", ("gzip",)),
        (b"br;q=2", ()),
        (b"br;q=-1", ()),
        (b"br;q=nan", ()),
        (b"br;q=", ()),
        (b"br;q=0_1", ()),
        (b"br;x=1;q=0", ()),
        (b"br;level=9", ()),
        (b",,;,br", ("br",)),
        (b"\xff\xfe, gzip", ("gzip",)),
        (b"brotli", ()),
        (b"xbr", ()),
        (b"gzip, " + b"a" * ACCEPT_ENCODING_BYTES_MAX, ()),
    ],
)
def test_codings_are_looked_for_by_weight_then_by_size(
    header: bytes | None, expected: tuple[str, ...]
) -> None:
    assert accepted(header) == expected


def test_who_likes_only_what_is_not_there_gets_identity() -> None:
    assert choose((), b"br") == IDENTITY
    assert choose(("gzip",), b"br") == IDENTITY
    assert choose(("gzip", "br"), b"zstd, br;q=0.5, gzip;q=0.4") == "br"


def test_a_tag_belongs_to_one_coding() -> None:
    tags = {coded_etag(b'"abc"', coding) for coding in (*CODINGS, IDENTITY)}
    assert tags == {b'"abc-br"', b'"abc-zstd"', b'"abc-gzip"', b'"abc"'}


def test_what_was_negotiated_is_remembered_within_bounds() -> None:
    for number in range(MEMO_MAX + 10):
        accepted(b"gzip;q=0.%d" % number)
    assert 0 < len(_memo) <= MEMO_MAX


@given(st.binary(max_size=300))
def test_no_header_breaks_it(header: bytes) -> None:
    assert set(accepted(header)) <= set(CODINGS)
