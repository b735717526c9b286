"""The private listener: metrics, outcomes, and notices that are believed only when signed, fresh and new."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from datacenters import etcd_keys
from datacenters.etcd import Etcd
from datacenters.feeds import decode_purge
from datacenters.notices import BODY_BYTES_MAX, SignedNotice, sign_notice
from datacenters.sender_keys import read_private_key
from gateway import private
from gateway.metrics import Metrics
from gateway.private import PrivateListener
from sandbox.etcd import EtcdServer
from tests.auth.people import START, Clock
from tests.gateway.people import PARENT, PUPIL
from tests.gateway.world import NOWHERE, SITES, World, answered, declare, lifespan, scope_of, settings_for
from tests.waiting import eventually

TAGS = (f"relations:{PARENT}", f"profile:{PARENT}")
PURGE = "/internal/purge"


class Listening:
    """A started private listener and what a datacenter needs to talk to it."""

    def __init__(self, settings: Any, keys: Path) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.app = PrivateListener(settings, registry=self.registry, clock=self.clock)
        app: Any = self.app
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://private")
        self._keys = keys

    def signed(self, tags: tuple[str, ...] = TAGS, *, site: str = "rabat", at: float = START) -> SignedNotice:
        return sign_notice(
            key=read_private_key(self._keys / f"datacenter-{site}.pem"), site=site, tags=tags, now=at
        )

    async def tell(self, notice: SignedNotice, **headers: str) -> int:
        sent = {"massar-signature": notice.signature, **headers}
        answer = await self.http.post(PURGE, content=notice.body, headers=sent)
        assert answer.content == b""
        return answer.status_code


@pytest.fixture
async def listening(
    tmp_path: Path, keys_folder: Path, own_etcd: EtcdServer, etcd_client: Etcd
) -> AsyncIterator[Listening]:
    await declare(etcd_client)
    settings = settings_for(
        tmp_path, keys=keys_folder, urls=dict.fromkeys(SITES, NOWHERE), etcd_url=own_etcd.url
    )
    found = Listening(settings, keys_folder)
    async with lifespan(found.app), found.http:
        yield found


async def published(etcd: Etcd) -> list[tuple[str, ...]]:
    return [decode_purge(item.value).tags for item in (await etcd.range(etcd_keys.PURGES, prefix=True)).items]


async def test_a_good_notice_becomes_a_purge_for_every_site(listening: Listening, etcd_client: Etcd) -> None:
    assert await listening.tell(listening.signed()) == 204
    assert await listening.tell(listening.signed(("timetable:x",), site="marrakech")) == 204
    assert sorted(await published(etcd_client)) == sorted([TAGS, ("timetable:x",)])


async def test_a_notice_hides_a_revoked_child_on_the_next_request(listening: Listening, world: World) -> None:
    timetable = f"/v1/pupils/{PUPIL}/timetable"
    assert (await world.get(timetable, PARENT)).status_code == 200
    world.rabat.say(f"/v1/people/{PARENT}/relations", subject=PARENT, generation=2, pupils={}, classes={})
    assert await listening.tell(listening.signed()) == 204

    async def hidden() -> bool:
        return (await world.get(timetable, PARENT)).status_code == 404

    await eventually(hidden, within_s=10.0)


async def test_what_is_not_signed_by_a_known_datacenter_changes_nothing(
    listening: Listening, etcd_client: Etcd
) -> None:
    good = listening.signed()
    other = listening.signed(("grades:other",))
    forged = [
        SignedNotice(good.body, other.signature),
        SignedNotice(good.body.replace(b"relations", b"Relations"), good.signature),
        SignedNotice(good.body, good.signature.replace("rabat", "marrakech")),
        SignedNotice(good.body, good.signature.replace("datacenter:rabat", "gateway:rabat")),
        SignedNotice(good.body, good.signature.replace("rabat", "witness")),
        SignedNotice(good.body, ""),
        SignedNotice(good.body, "keyid=, sig="),
        SignedNotice(b"", good.signature),
    ]
    for notice in forged:
        assert await listening.tell(notice) == 401, notice
    unsigned = await listening.http.post(PURGE, content=good.body)
    assert unsigned.status_code == 401
    assert await published(etcd_client) == []
    assert await listening.tell(good) == 204


async def test_a_notice_is_believed_once_and_for_a_minute(listening: Listening, etcd_client: Etcd) -> None:
    notice = listening.signed()
    assert [await listening.tell(notice) for _ in range(2)] == [204, 401]
    for at in (START - 61, START + 61):
        assert await listening.tell(listening.signed(at=at)) == 401
    listening.clock.advance(59)
    assert await listening.tell(listening.signed()) == 204
    assert len(await published(etcd_client)) == 2


def resigned(listening: Listening, body: bytes) -> SignedNotice:
    key = read_private_key(listening._keys / "datacenter-rabat.pem")
    signature = base64.urlsafe_b64encode(key.sign(body)).rstrip(b"=").decode()
    return SignedNotice(body=body, signature=f'keyid="datacenter:rabat", sig={signature}')


async def test_a_signed_notice_of_another_form_is_400_and_changes_nothing(
    listening: Listening, etcd_client: Etcd
) -> None:
    said = {"sender": "datacenter:rabat", "nonce": "abcdefgh1234", "at": START, "tags": ["grades:x"]}
    wrong = [
        b"not JSON",
        msgspec.json.encode({**said, "tags": []}),
        msgspec.json.encode({**said, "tags": ["x"] * 65}),
        msgspec.json.encode({**said, "tags": ["x" * 129]}),
        msgspec.json.encode({**said, "extra": 1}),
        msgspec.json.encode({**said, "nonce": "x"}),
    ]
    for body in wrong:
        assert await listening.tell(resigned(listening, body)) == 400, body
    assert await published(etcd_client) == []


async def test_a_notice_beyond_its_bound_or_too_slow_is_refused(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await listening.tell(resigned(listening, b"x" * (BODY_BYTES_MAX + 1))) == 413
    monkeypatch.setattr(private, "BODY_WAIT_S", 0.001)
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    await listening.app(scope_of("POST", PURGE), receive, send)
    assert sent[0]["status"] == 408


async def test_a_notice_that_cannot_be_passed_on_is_to_be_repeated(tmp_path: Path, keys_folder: Path) -> None:
    settings = settings_for(tmp_path, keys=keys_folder, urls=dict.fromkeys(SITES, NOWHERE), etcd_url=NOWHERE)
    deaf = Listening(settings, keys_folder)
    async with lifespan(deaf.app), deaf.http:
        assert await deaf.tell(deaf.signed()) == 503


async def test_metrics_and_outcomes_are_told(listening: Listening) -> None:
    assert (await listening.http.get("/internal/outcomes")).json() == {}
    for well in (True, True, False, False):
        listening.metrics.user("rabat", well=well)
    listening.metrics.user("marrakech", well=True)
    listening.metrics.forwarded("rabat", "timeout")
    listening.metrics.request("/v1/me", "GET", 200, 0.004)
    listening.metrics.flush()
    outcomes = await listening.http.get("/internal/outcomes")
    assert outcomes.json() == {"rabat": {"ok": 2, "failed": 2}, "marrakech": {"ok": 1, "failed": 0}}
    assert outcomes.headers["content-type"] == "application/json"
    metrics = await listening.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert 'massar_requests_total{method="GET",route="/v1/me",status="200"} 1.0' in metrics.text
    assert 'massar_forwarded_total{datacenter="rabat",outcome="timeout"} 1.0' in metrics.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("GET", PURGE),
        ("POST", "/metrics"),
        ("GET", "/v1/me"),
        ("GET", "/metrics/"),
        ("PUT", PURGE),
    ],
)
async def test_there_is_nothing_else(listening: Listening, method: str, path: str) -> None:
    assert (await listening.http.request(method, path)).status_code == 404


async def test_other_protocols_get_no_answer(listening: Listening) -> None:
    async def silent(*_arguments: Any) -> Any:
        raise AssertionError("nothing is read or sent")

    await listening.app({"type": "websocket"}, silent, silent)


async def test_the_public_address_has_none_of_it(shared: World) -> None:
    for path in ("/metrics", "/internal/outcomes", PURGE):
        answer = await answered(shared.app, scope_of("GET", path))
        assert answer.status == 404
