"""How commands find etcd, and what they say when its majority is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datacenters import control, etcd_keys, reach
from datacenters.audit_commands import audit
from datacenters.commands import dc
from datacenters.etcd import Etcd
from sandbox.etcd import EtcdServer
from tests.datacenters.typing_in import installed, invoke, said
from tests.datacenters.worlds import NOW


async def test_with_one_surviving_member_reading_goes_on_and_says_whose_word_it_is(
    etcd_trio: tuple[EtcdServer, ...],
) -> None:
    urls = [server.url for server in etcd_trio]
    client = Etcd(urls, timeout_s=5.0, connect_timeout_s=5.0)
    await control.bootstrap(client, active="rabat", now=NOW)
    await client.put(etcd_keys.OBSERVATIONS + "marker", b'{"site":"marker","sequence":1,"looks":{}}')
    # Every member has it before two of them die.
    for url in urls:
        own = Etcd([url], timeout_s=5.0, connect_timeout_s=5.0)
        assert await own.read(etcd_keys.CONTROL) is not None
        await own.aclose()
    await client.aclose()
    for server in etcd_trio[:2]:
        server.process.kill()
    options = [word for url in urls for word in ("--etcd", url)]
    for command, name in ((dc, "status"), (dc, "explain"), (audit, "list"), (audit, "verify")):
        shown = await invoke(command, name, *options)
        assert shown.exit_code == 0, (name, shown.output)
        assert f"NO MAJORITY: this is what {urls[2]} last knew, possibly old" in shown.output or (
            f"{urls[2]} alone" in shown.output
        )
    assert (await said(dc, "status", *options))["word_of_one_member"] == urls[2]
    refused = await invoke(dc, "hold", *options)
    assert refused.exit_code == 1
    assert "nothing is decided" in refused.output


async def test_a_majority_is_asked_first_and_nothing_is_said_of_it(etcd: Etcd) -> None:
    where = await installed(etcd)
    assert "NO MAJORITY" not in (await invoke(dc, "status", *where)).output
    assert (await said(dc, "status", *where))["word_of_one_member"] is None


def test_a_place_is_named_by_options_then_environment_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sandbox.json").write_text(json.dumps({"etcd": ["http://table"]}))
    monkeypatch.setenv("MASSAR_ETCD_URLS", "http://a,http://b")
    assert reach.place(tmp_path, ["http://given"]).urls == ("http://given",)
    assert reach.place(None, []) == reach.Place(urls=("http://a", "http://b"))
    assert reach.place(tmp_path, []) == reach.Place(urls=("http://table",), sandbox=tmp_path)


def test_who_orders_is_named_by_the_machine() -> None:
    assert reach.operator().startswith("operator:")
