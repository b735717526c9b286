"""A notice is believed when a known datacenter signed it, now, for the first time."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from datacenters import notices
from datacenters.notices import Notice, NoticeMalformed, NoticeRefused, SignedNotice
from datacenters.single_use import SingleUse

NOW = 1_790_000_000.0
KEY = Ed25519PrivateKey.generate()
KEYS = {"rabat": KEY.public_key(), "marrakech": Ed25519PrivateKey.generate().public_key()}


def signed(*tags: str, now: float = NOW) -> SignedNotice:
    return notices.sign_notice(key=KEY, site="rabat", tags=tags or ("relations:abc",), now=now)


def verified(notice: SignedNotice, **changes: Any) -> Notice:
    values = {"keys": KEYS, "seen": SingleUse(), "now": NOW, **changes}
    return notices.verify_notice(notice.body, notice.signature, **values)


def resigned(body: dict[str, Any]) -> SignedNotice:
    raw = msgspec.json.encode(body)
    signature = base64.urlsafe_b64encode(KEY.sign(raw)).rstrip(b"=").decode()
    return SignedNotice(body=raw, signature=f'keyid="datacenter:rabat", sig={signature}')


def test_tags_arrive_as_sent() -> None:
    assert verified(signed("relations:abc", "profile:abc")).tags == ("relations:abc", "profile:abc")


def test_the_same_notice_is_believed_once() -> None:
    seen, notice = SingleUse(), signed()
    verified(notice, seen=seen)
    with pytest.raises(NoticeRefused, match="before"):
        verified(notice, seen=seen)


@pytest.mark.parametrize("shift_s", [-61, 61])
def test_beyond_the_minute_it_is_refused(shift_s: float) -> None:
    with pytest.raises(NoticeRefused, match="minute"):
        verified(signed(), now=NOW + shift_s)


def test_a_notice_from_the_future_cannot_be_played_again_within_its_window() -> None:
    seen, notice = SingleUse(), signed(now=NOW + 50)
    verified(notice, seen=seen)
    with pytest.raises(NoticeRefused, match="before"):
        verified(notice, seen=seen, now=NOW + 109)


@pytest.mark.parametrize(
    "signature",
    [None, "", "sig=abc", 'keyid="datacenter:fes", sig=' + "A" * 86, 'keyid="rabat", sig=' + "A" * 86],
)
def test_without_a_known_signature_it_is_refused(signature: str | None) -> None:
    with pytest.raises(NoticeRefused):
        notices.verify_notice(signed().body, signature, keys=KEYS, seen=SingleUse(), now=NOW)


def test_another_sites_signature_is_refused() -> None:
    notice = signed()
    pretended = notice.signature.replace("rabat", "marrakech")
    with pytest.raises(NoticeRefused, match="does not match"):
        notices.verify_notice(notice.body, pretended, keys=KEYS, seen=SingleUse(), now=NOW)


def test_a_sender_that_is_not_the_signer_is_refused() -> None:
    with pytest.raises(NoticeRefused, match="another sender"):
        verified(resigned({"sender": "datacenter:marrakech", "nonce": "n" * 16, "at": NOW, "tags": ["a"]}))


@pytest.mark.parametrize(
    "change",
    [
        {"tags": []},
        {"tags": ["a"] * 65},
        {"tags": ["a" * 129]},
        {"tags": [""]},
        {"nonce": "short"},
        {"more": 1},
        {"at": "now"},
    ],
)
def test_beyond_the_bounds_it_is_malformed(change: dict[str, Any]) -> None:
    body = {"sender": "datacenter:rabat", "nonce": "n" * 16, "at": NOW, "tags": ["a"], **change}
    with pytest.raises(NoticeMalformed):
        verified(resigned(body))


def test_a_body_beyond_the_bound_is_not_even_read() -> None:
    with pytest.raises(NoticeMalformed, match="too long"):
        verified(SignedNotice(body=b" " * (notices.BODY_BYTES_MAX + 1), signature=""))


@pytest.mark.parametrize("tags", [(), ("a",) * 65, ("a" * 129,), ("",)])
def test_a_sender_cannot_sign_beyond_the_bounds(tags: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="64 tags"):
        notices.sign_notice(key=KEY, site="rabat", tags=tags, now=NOW)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=64))
def test_whatever_may_be_signed_is_believed(tags: list[str]) -> None:
    assert verified(signed(*tags)).tags == tuple(tags)


@pytest.mark.parametrize("letter", ["a", "م", "\u2028", "\x01"])
def test_the_longest_notice_fits(letter: str) -> None:
    assert len(verified(signed(*[letter * 128] * 64)).tags) == 64
