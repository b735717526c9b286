"""What the status routes are told: the declared state, and whether this worker can serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from datacenters.record import Phase, Protection
from gateway.condition import DRAINING_FILE
from tests.datacenters.listening import Proxy
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import PUPIL
from tests.gateway.world import World


async def test_status_names_the_declared_datacenter_in_both_scripts(shared: World) -> None:
    assert (await shared.get("/v1/status")).json() == {
        "mode": "normal",
        "datacenter": {"ar": "الرباط", "fr": "Rabat"},
        "epoch": 1,
        "retry_after_s": None,
    }


@pytest.mark.parametrize(
    ("changes", "mode", "name"),
    [
        ({"active": "marrakech", "epoch": 7}, "normal", "Marrakech"),
        ({"phase": Phase.HOLD, "epoch": 7}, "normal", "Rabat"),
        ({"phase": Phase.PROMOTING, "target": "marrakech", "epoch": 7}, "switching", "Rabat"),
        ({"phase": Phase.READ_ONLY, "epoch": 7}, "read-only", "Rabat"),
        ({"protection": Protection.NONE, "epoch": 7}, "unprotected", "Rabat"),
        ({"protection": Protection.RETURNING, "epoch": 7}, "unprotected", "Rabat"),
        ({"active": "elsewhere", "epoch": 7}, "normal", ""),
    ],
)
async def test_status_follows_the_record(
    make_world: MakeWorld, changes: dict[str, object], mode: str, name: str
) -> None:
    world = await make_world(record=changes)
    answer = await world.get("/v1/status")
    assert answer.json()["mode"] == mode
    assert answer.json()["datacenter"]["fr"] == name
    assert answer.json()["epoch"] == 7
    assert answer.json()["retry_after_s"] == (None if mode in {"normal", "unprotected"} else 2)
    assert answer.headers["massar-mode"] == mode
    assert answer.headers["massar-epoch"] == "7"


async def test_while_no_datacenter_answers_the_mode_is_survival(world: World) -> None:
    await world.rabat.stop()
    await world.marrakech.stop()
    assert (await world.get("/v1/status")).json()["mode"] == "normal"  # nobody has met it yet
    await world.get("/v1/me", PUPIL)
    status = await world.get("/v1/status")
    assert (status.json()["mode"], status.json()["retry_after_s"]) == ("survival", 2)
    assert status.headers["massar-mode"] == "survival"
    world.clock.advance(6)
    assert (await world.get("/v1/status")).json()["mode"] == "normal"


async def test_with_etcd_silent_the_apps_are_told_read_only(
    make_world: MakeWorld, proxy: tuple[Proxy, str]
) -> None:
    line, url = proxy
    world = await make_world(etcd_urls=(url,))
    line.cut()
    world.monotonic.advance(4)
    status = await world.get("/v1/status")
    assert status.headers["massar-mode"] == "degraded"
    assert status.json()["mode"] == "read-only"


async def test_readiness_waits_for_the_record_and_outlives_everything_else(world: World) -> None:
    assert (await world.get("/readyz")).status_code == 200
    await world.rabat.stop()
    await world.marrakech.stop()
    world.monotonic.advance(3600)  # etcd was last heard an hour ago
    assert (await world.get("/readyz")).status_code == 200


async def test_a_worker_that_never_heard_the_record_is_alive_but_not_ready(
    cut_off: Callable[[], World],
) -> None:
    world = cut_off()
    assert (await world.get("/livez")).status_code == 200
    assert (await world.get("/readyz")).json()["slug"] == "overloaded"
    status = (await world.get("/v1/status")).json()
    assert (status["mode"], status["epoch"], status["datacenter"]["fr"]) == ("read-only", 0, "")


async def test_a_draining_worker_is_alive_but_not_ready(world: World) -> None:
    Path(world.settings.metrics_dir / DRAINING_FILE).touch()
    answer = await world.get("/readyz")
    assert (answer.status_code, answer.json()["slug"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert (await world.get("/livez")).json() == {"status": "alive"}


async def test_the_key_set_is_what_the_tokens_are_signed_with(shared: World) -> None:
    published = msgspec.json.decode((await shared.get("/.well-known/jwks.json")).content)
    assert [key["kid"] for key in published["keys"]] == [shared.tokens.keys.signing_kid]
    assert set(published["keys"][0]) == {"kty", "crv", "kid", "x", "y", "use", "alg"}
