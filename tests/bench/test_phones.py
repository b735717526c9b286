"""Every connection is a new one, every answer is judged, and what is due is begun when it is due."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import msgspec
import pytest

from bench.client import Unexpected
from bench.peers import certificate
from bench.peers.probing import Probed
from bench.peers.scenarios import raw
from bench.phones import Person, connect, granted, offer, refresh, sign_in, trusting
from tests.bench.peers.test_probing import EXPECTED, serving

PERSON = Person("a" * 22, "a100000001@taalim.ma", "bench-0", "the.refresh.token")


async def test_a_phone_is_answered_over_tls_and_another_status_is_told(tmp_path: Path) -> None:
    shown = certificate.make(tmp_path / "pem")
    async with serving(shown) as port:
        phone = await connect(port, trusting(shown))
        assert await phone.ask(raw("/a", "t")) == EXPECTED
        with pytest.raises(Unexpected, match="200, not 304"):
            await phone.ask(raw("/a", "t"), status=304)
        await phone.close()


async def test_no_handshake_is_made_short_by_one_before_it(tmp_path: Path) -> None:
    shown = certificate.make(tmp_path / "pem")
    tls = trusting(shown)
    async with serving(shown) as port:
        for _ in range(3):
            phone = await connect(port, tls)
            secured: ssl.SSLObject = phone._writer.get_extra_info("ssl_object")
            assert (secured.version(), secured.session_reused) == ("TLSv1.3", False)
            await phone.ask(raw("/a", "t"))
            await phone.close()


async def test_an_older_tls_is_not_what_is_measured(tmp_path: Path) -> None:
    shown = certificate.make(tmp_path / "pem")
    tls = trusting(shown)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(shown) as port:
        with pytest.raises(Unexpected, match=r"TLSv1\.2"):
            await connect(port, tls)


async def test_errands_begin_when_they_are_due_and_wait_for_none_before_them() -> None:
    all_there, there = asyncio.Event(), 0

    async def errand(number: int) -> None:
        nonlocal there
        there += 1
        if there == 10:
            all_there.set()
        await all_there.wait()

    took_s = await offer(errand, count=10, rate=100.0)
    assert there == 10
    assert took_s >= 0.09


async def test_what_goes_wrong_with_one_is_told_as_it_is() -> None:
    async def errand(number: int) -> None:
        if number == 2:
            raise Unexpected("503")

    with pytest.raises(Unexpected, match="503"):
        await offer(errand, count=5, rate=1_000.0)


def body(request: bytes) -> dict[str, object]:
    head, _, content = request.partition(b"\r\n\r\n")
    assert f"content-length: {len(content)}".encode() in head
    return msgspec.json.decode(content, type=dict[str, object])


def test_a_sign_in_is_on_a_new_phone_each_time_and_a_refresh_on_the_same() -> None:
    devices = [str(body(sign_in(PERSON))["device"]) for _ in range(3)]
    assert len(set(devices)) == 3
    asked = body(refresh(PERSON))
    assert asked == {"refresh_token": PERSON.refresh_token, "device": {"id": PERSON.device}}


def test_tokens_are_taken_from_the_answer() -> None:
    answer = Probed(200, {}, b'{"access_token":"a","refresh_token":"r","expires_in":600}')
    assert granted(answer) == ("a", "r")
