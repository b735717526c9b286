"""The entry point of a worker."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import asgi
from gateway.edge import Edge
from gateway.settings import SettingsError
from tests.gateway.world import NOWHERE, SITES, Plain


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys_folder: Path
) -> tuple[pytest.MonkeyPatch, list[str]]:
    """The environment of a worker, and what its process would have been made to do."""
    done: list[str] = []
    monkeypatch.setattr(asgi, "end_with_parent", lambda: done.append("tied"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("frozen"))
    monkeypatch.setattr(gc, "set_threshold", lambda *_thresholds: None)
    monkeypatch.setattr("gateway.logs.configure", lambda component, site: done.append(f"{component} {site}"))
    given = {
        "SITE": "rabat",
        "SITES": msgspec.json.encode({site: {"datacenter_url": NOWHERE} for site in SITES}).decode(),
        "ETCD_URLS": NOWHERE,
        "ACCESS_KEYS_DIR": str(keys_folder / "access"),
        "ASSERTION_KEY_FILE": str(keys_folder / "gateway-rabat.pem"),
        "NOTICE_KEYS_DIR": str(keys_folder),
        "JOURNAL_KEY_FILE": str(keys_folder / "journal.key"),
        "SEAL_KEY_FILE": str(keys_folder / "seal.key"),
        "METRICS_DIR": str(tmp_path),
    }
    for name, value in given.items():
        monkeypatch.setenv(f"MASSAR_{name}", value)
    return monkeypatch, done


def test_a_worker_is_the_edge_and_ends_with_its_supervisor(environment: tuple[Any, list[str]]) -> None:
    _, done = environment
    assert isinstance(asgi.build(), Edge)
    assert done == ["tied", "gateway rabat", "frozen"]


async def test_proxies_are_believed_only_where_the_setting_names_them(
    environment: tuple[pytest.MonkeyPatch, list[str]],
) -> None:
    patch, _ = environment
    patch.setenv("MASSAR_TRUSTED_PROXIES", "127.0.0.1")
    app = asgi.build()
    assert not isinstance(app, Edge)
    from tests.gateway.world import answered, scope_of

    answer: Plain = await answered(
        app, scope_of("GET", "/livez", headers=[(b"x-forwarded-for", b"10.0.0.1")])
    )
    assert answer.status == 200


def test_a_wrong_setting_stops_the_worker(environment: tuple[pytest.MonkeyPatch, list[str]]) -> None:
    patch, done = environment
    patch.setenv("MASSAR_WORKERS", "0")
    with pytest.raises(SettingsError, match=r"^MASSAR_WORKERS"):
        asgi.build()
    assert done == []
