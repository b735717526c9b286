"""Who may ask, and under which epoch: assertions, fencing, and what happens when the epoch rises."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters.sender_keys import read_private_key
from tests.conformance import seed
from tests.conformance.acting import EXERCISE, HOMEWORK, blocked, homework_count
from tests.conformance.ground import HEARD, SITE, Ground
from tests.waiting import eventually

TARGET = "/v1/calendar?view=public"
AWAY = "UPDATE fence SET heard_at = clock_timestamp() + make_interval(secs => $1) WHERE id = 1"
RAISE = "UPDATE fence SET epoch = $1, heard_at = clock_timestamp() WHERE id = 1"

_body = msgspec.json.encode({**EXERCISE, "text": "Forged"})


async def ask(
    ground: Ground, token: str | None, *, target: str = TARGET, epoch: str | None = None
) -> tuple[int, str | None]:
    headers = {"Massar-Epoch": str(ground.epoch) if epoch is None else epoch}
    if token is not None:
        headers["Massar-Assertion"] = token
    answer = await ground.client.get(target, headers=headers)
    ground.contract.check(answer)
    return answer.status_code, answer.json().get("slug")


async def test_a_request_without_an_assertion_is_refused(datacenter: Ground) -> None:
    for token in (None, "", "x", "a.b.c", "." * 5000):
        assert await ask(datacenter, token) == (401, "assertion-invalid")


@pytest.mark.parametrize(
    "changed",
    [
        {"audience": "datacenter:marrakech"},
        {"audience": "gateway:rabat"},
        {"method": "HEAD"},
        {"target": "/v1/calendar"},
        {"target": f"{TARGET}&"},
        {"target": f"/v1/people/{seed.MOTHER}/relations?view=gateway"},
        {"body": b"{}"},
        {"epoch": 6},
        {"epoch": 8},
        {"now": time.time() - 3600},
        {"now": time.time() + 3600},
        {"key": Ed25519PrivateKey.generate()},
        {"site": "marrakech"},
        {"site": "witness"},
    ],
    ids="-".join,
)
async def test_an_assertion_for_anything_else_is_refused(datacenter: Ground, changed: dict[str, Any]) -> None:
    assert await ask(datacenter, datacenter.assertion("GET", TARGET, **changed)) == (401, "assertion-invalid")
    assert await ask(datacenter, datacenter.assertion("GET", TARGET)) == (200, None)


async def test_an_expired_assertion_is_refused_and_a_clock_may_differ_a_little(datacenter: Ground) -> None:
    for ago_s, status in ((-4, 200), (4, 200), (34, 200), (36, 401), (-6, 401)):
        token = datacenter.assertion("GET", TARGET, now=time.time() - ago_s)
        assert (await ask(datacenter, token))[0] == status, ago_s


async def test_an_assertion_is_good_for_one_request(datacenter: Ground) -> None:
    token = datacenter.assertion("GET", TARGET)
    assert await ask(datacenter, token) == (200, None)
    assert await ask(datacenter, token) == (401, "assertion-invalid")


async def test_the_other_sites_gateway_is_known_by_its_own_key(datacenter: Ground, site_keys: Path) -> None:
    key = read_private_key(site_keys / "gateway-marrakech.pem")
    assert await ask(datacenter, datacenter.assertion("GET", TARGET, key=key, site="marrakech")) == (
        200,
        None,
    )
    assert await ask(datacenter, datacenter.assertion("GET", TARGET, key=key, site=SITE)) == (
        401,
        "assertion-invalid",
    )


async def test_an_unsigned_assertion_is_refused(datacenter: Ground) -> None:
    header, claims, _ = datacenter.assertion("GET", TARGET).split(".")
    unsigned = (
        base64.urlsafe_b64encode(b'{"alg":"none","typ":"massar-assertion+jwt","kid":"rabat"}')
        .rstrip(b"=")
        .decode()
    )
    for token in (f"{unsigned}.{claims}.", f"{header}.{claims}.", f"{unsigned}.{claims}.AAAA"):
        assert await ask(datacenter, token) == (401, "assertion-invalid")


async def test_an_epoch_is_required_and_must_be_a_number(datacenter: Ground) -> None:
    for epoch in ("", "-1", "7.0", "seven", "٧".encode().decode("latin-1"), "9" * 30):
        answer = await datacenter.client.get(
            TARGET,
            headers={
                b"massar-epoch": epoch.encode("latin-1"),
                b"massar-assertion": datacenter.assertion("GET", TARGET).encode(),
            },
        )
        datacenter.contract.check(answer)
        assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")


async def test_a_write_with_another_body_than_asserted_is_refused(own: Ground) -> None:
    token = own.assertion("POST", HOMEWORK, b"{}", subject=seed.TEACHER, role="teacher")
    answer = await own.client.post(
        HOMEWORK,
        content=_body,
        headers={"Massar-Epoch": str(own.epoch), "Massar-Assertion": token, "Idempotency-Key": "forged"},
    )
    own.contract.check(answer)
    assert answer.status_code == 401
    assert await homework_count(own, "Forged") == 0


# --- fencing -----------------------------------------------------------------------------------------------------


async def assign(ground: Ground, text: str, **how: Any) -> tuple[int, str | None]:
    answer = await ground.write("POST", HOMEWORK, {**EXERCISE, "text": text}, **how)
    body = answer.json()
    return answer.status_code, body.get("slug") if answer.status_code >= 400 else None


@pytest.fixture(autouse=True)
async def same_fence(own: Ground) -> AsyncIterator[None]:
    """Whatever a test does to the fence, the next one finds it whole."""
    yield
    if own.dsn is not None:
        await own.sql("UPDATE fence SET site = $1, epoch = $2 WHERE id = 1", SITE, own.epoch)


async def test_an_epoch_below_the_fences_is_stale_for_reads_and_writes(own: Ground) -> None:
    answer = await own.get(TARGET, epoch=own.epoch - 1)
    assert (answer.status_code, answer.json()["slug"]) == (409, "stale-epoch")
    assert answer.headers["massar-epoch"] == str(own.epoch)
    assert await assign(own, "Stale", epoch=own.epoch - 1) == (409, "stale-epoch")
    assert await homework_count(own, "Stale") == 0


async def test_a_write_above_the_fences_epoch_is_read_only_and_every_lower_one_is_stale_from_then_on(
    own: Ground,
) -> None:
    before = own.epoch
    assert await assign(own, "Ahead", epoch=before + 3) == (503, "read-only")
    assert await assign(own, "Behind", epoch=before) == (409, "stale-epoch")
    answer = await own.get(TARGET, epoch=before + 3)
    assert (answer.status_code, answer.headers["massar-epoch"]) == (200, str(before + 3))
    health = (await own.client.get("/health")).json()
    assert (health["epoch"], health["writable"]) == (before + 3, False)
    own.epoch = before + 3
    await own.sql(RAISE, own.epoch)
    assert await assign(own, "Level") == (201, None)
    assert [await homework_count(own, text) for text in ("Ahead", "Behind", "Level")] == [0, 0, 1]


async def test_a_request_that_was_not_believed_teaches_no_epoch(own: Ground) -> None:
    forged = own.assertion("GET", TARGET, epoch=own.epoch + 50, key=Ed25519PrivateKey.generate())
    assert (await ask(own, forged, epoch=str(own.epoch + 50)))[0] == 401
    assert (await own.get(TARGET)).status_code == 200


@pytest.mark.parametrize("moved_s", [-1.6, 1.8, -3600])
async def test_a_silent_director_closes_the_datacenter_for_writes(own: Ground, moved_s: float) -> None:
    await own.sql(AWAY, moved_s)
    assert await assign(own, "Silent", heard=False) == (503, "read-only")
    assert (await own.client.get("/health")).json()["writable"] is False
    assert (await own.get(TARGET)).status_code == 200
    assert await homework_count(own, "Silent") == 0
    await own.sql(HEARD)
    assert (await own.client.get("/health")).json()["writable"] is True


async def test_a_stored_answer_is_not_repeated_by_a_closed_datacenter(own: Ground) -> None:
    assert await assign(own, "Stored", key="stored") == (201, None)
    await own.sql(AWAY, -5.0)
    assert await assign(own, "Stored", key="stored", heard=False) == (503, "read-only")
    assert await assign(own, "Stored", key="stored") == (201, None)
    assert await homework_count(own, "Stored") == 1


async def test_another_sites_fence_or_none_is_read_only(own: Ground) -> None:
    await own.sql("UPDATE fence SET site = 'marrakech' WHERE id = 1")
    assert await assign(own, "Not ours") == (503, "read-only")
    await own.sql("DELETE FROM fence")
    assert await assign(own, "No fence") == (503, "read-only")
    await own.sql("INSERT INTO fence (id, epoch, site) VALUES (1, $1, $2)", own.epoch, SITE)
    assert [await homework_count(own, text) for text in ("Not ours", "No fence")] == [0, 0]


async def test_raising_the_epoch_waits_for_a_write_that_has_checked_it(own: Ground) -> None:
    holder, director = await asyncpg.connect(own.dsn, ssl=False), await asyncpg.connect(own.dsn, ssl=False)
    entry = {"pupil_id": seed.PUPIL, "number": 1, "mark": "15.00", "state": "marked", "version": 3}
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute("SELECT 1 FROM gradebooks WHERE class_id = $1 FOR UPDATE", seed.CLASS)
        path = f"/v1/gradebooks/{seed.CLASS}/MATH/1/entries"
        writing = asyncio.create_task(own.write("PUT", path, {"entries": [entry]}))
        await eventually(lambda: blocked(own), within_s=2)
        # The director's sign of life goes through at once; raising the epoch must wait.
        await director.execute(HEARD, timeout=0.5)
        raising = asyncio.create_task(director.execute(RAISE, own.epoch + 1))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'UPDATE fence SET epoch%' AND wait_event_type = 'Lock'"
        await eventually(lambda: own.sql(waiting), within_s=2)
        assert not raising.done()
        await held.rollback()
        assert (await writing).json()["results"][0]["status"] == "accepted"
        await asyncio.wait_for(raising, 2)
    finally:
        await holder.close()
        await director.close()
    assert await assign(own, "Too late") == (409, "stale-epoch")
    own.epoch += 1


async def test_a_write_that_comes_while_the_epoch_is_being_raised_sees_the_new_one(own: Ground) -> None:
    await own.sql(HEARD)
    director = await asyncpg.connect(own.dsn, ssl=False)
    try:
        raising = director.transaction()
        await raising.start()
        await director.execute(RAISE, own.epoch + 1)
        writing = asyncio.create_task(assign(own, "Overtaken", heard=False))
        await eventually(lambda: blocked(own), within_s=2)
        await raising.commit()
        assert await writing == (409, "stale-epoch")
    finally:
        await director.close()
    own.epoch += 1
    assert await homework_count(own, "Overtaken") == 0
