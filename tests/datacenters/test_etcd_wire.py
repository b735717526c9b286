"""What etcd's JSON gateway sends is read as it is sent: strings for large integers, nothing for what is false or zero."""

from __future__ import annotations

from datacenters import etcd_wire as wire


def test_large_integers_are_strings_and_bytes_are_base64() -> None:
    found = wire.RANGED.decode(
        b'{"header":{"revision":"9007199254740993"},"kvs":[{"key":"aw==","value":"dg==","mod_revision":"7"}],"count":"1"}'
    )
    assert (found.header.revision, found.count) == (9007199254740993, 1)
    assert (found.kvs[0].key, found.kvs[0].value, found.kvs[0].mod_revision) == (b"k", b"v", 7)


def test_what_is_absent_is_false_zero_or_empty() -> None:
    done = wire.CHANGED.decode(b'{"header":{}}')
    assert (done.succeeded, done.header.revision, done.responses) == (False, 0, [])
    assert wire.KEPT.decode(b'{"result":{}}').result.TTL == 0


def test_a_read_inside_a_transaction_is_found_among_its_answers() -> None:
    done = wire.CHANGED.decode(
        b'{"header":{"revision":"4"},"responses":[{"response_put":{}},'
        b'{"response_range":{"kvs":[{"key":"aw==","value":"dg=="}]}}]}'
    )
    assert [one.response_range is not None for one in done.responses] == [False, True]
