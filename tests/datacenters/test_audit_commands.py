"""The chain as an operator lists, verifies and takes it along."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenters import etcd_keys
from datacenters.audit_commands import audit
from datacenters.commands import dc
from datacenters.etcd import Etcd
from tests.datacenters.typing_in import installed, invoke, said


@pytest.fixture
async def where(etcd: Etcd) -> list[str]:
    """An etcd in which Rabat was held and released."""
    options = await installed(etcd)
    for more in ([], ["--release"]):
        assert (await invoke(dc, "hold", *options, "--reason", "exam week", *more)).exit_code == 0
    return options


async def test_changes_are_listed_oldest_first(where: list[str]) -> None:
    shown = await invoke(audit, "list", *where)
    lines = shown.output.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "HOLD" in lines[1]
    assert "exam week" in lines[1]
    newest = await said(audit, "list", *where, "-n", "1")
    assert (newest["total"], [row["sequence"] for row in newest["rows"]]) == (3, [3])


async def test_a_whole_chain_is_verified_with_its_head(where: list[str]) -> None:
    shown = await invoke(audit, "verify", *where)
    assert shown.exit_code == 0
    assert "chain     whole (etcd): 3 rows" in shown.output
    found = await said(audit, "verify", *where)
    assert found["whole"] is True
    assert found["walk"]["head"]["sequence"] == 3
    head = f"3:{found['walk']['head']['digest']}"
    assert (await invoke(audit, "verify", *where, "--head", head)).exit_code == 0
    await invoke(dc, "hold", *where)
    assert (await invoke(audit, "verify", *where, "--head", head)).exit_code == 0
    assert (await invoke(audit, "verify", *where, "--head", "3:" + "0" * 64)).exit_code == 1
    assert (await invoke(audit, "verify", *where, "--head", "three")).exit_code == 2


async def test_a_changed_row_is_named_and_fails(etcd: Etcd, where: list[str]) -> None:
    row = await etcd.read(etcd_keys.audit(2))
    assert row is not None
    await etcd.put(row.key, row.value.replace(b"exam week", b"storm"))
    shown = await invoke(audit, "verify", *where)
    assert shown.exit_code == 1
    assert "BROKEN    at row 3: row 3" in shown.output
    found = await said(audit, "verify", *where)
    assert (found["whole"], found["walk"]["broken"]["sequence"]) == (False, 3)


async def test_an_export_is_followed_without_etcd_and_tampering_is_found(
    where: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    assert (await invoke(audit, "export", *where, str(file))).exit_code == 0
    content = file.read_bytes()
    assert (await invoke(audit, "verify", "--file", str(file))).exit_code == 0
    lines = content.splitlines(keepends=True)
    tampered = {
        "a word": content.replace(b"exam week", b"storm"),
        "a row gone": lines[0] + b"".join(lines[2:]),
        "rows moved": lines[1] + lines[0] + b"".join(lines[2:]),
        "the end gone": b"".join(lines[:-2]) + lines[-1],
        "the head gone": b"".join(lines[:-1]),
        "nothing left": b"",
    }
    for what, changed in tampered.items():
        file.write_bytes(changed)
        shown = await invoke(audit, "verify", "--file", str(file))
        assert (shown.exit_code, "BROKEN" in shown.output) == (1, True), what


async def test_an_unreadable_row_is_not_listed_but_verified(etcd: Etcd, where: list[str]) -> None:
    await etcd.put(etcd_keys.audit(3), b"{")
    assert "see `massar audit verify`" in (await invoke(audit, "list", *where)).output
    assert "the row is unreadable" in (await invoke(audit, "verify", *where)).output
