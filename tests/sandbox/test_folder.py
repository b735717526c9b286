"""One sandbox at a time in a folder; nothing that is not its own is touched."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from sandbox import folder, proc


def _table(path: Path, **changes: object) -> folder.Table:
    table = folder.Table(
        gateways={},
        metrics={},
        datacenters={},
        valkey={},
        etcd=[],
        dir=str(path),
        accounts={},
        boot_id=proc.boot_id(),
        supervisor=proc.own_identity(),
        ready=True,
        databases={},
        processes=[folder.Row(name="rabat-valkey", site="rabat", kind="valkey", who=proc.own_identity())],
    )
    return msgspec.structs.replace(table, **changes)


def test_a_new_folder_is_closed_to_others(tmp_path: Path) -> None:
    place = folder.occupy(tmp_path / "new" / "country")
    assert place.path.stat().st_mode & 0o777 == 0o700
    assert (place.path / folder.LOCK).stat().st_mode & 0o777 == 0o600
    place.close()


def test_an_empty_folder_that_others_may_enter_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "country").mkdir(mode=0o755)
    folder.occupy(tmp_path / "country").close()
    assert (tmp_path / "country").stat().st_mode & 0o777 == 0o700


def test_a_second_sandbox_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    place = folder.occupy(tmp_path / "country")
    with pytest.raises(folder.FolderRefused, match="already runs in"):
        folder.occupy(tmp_path / "country")
    place.write_table(_table(tmp_path))
    with pytest.raises(folder.FolderRefused, match=f"process {os.getpid()}"):
        folder.occupy(tmp_path / "country")
    place.close()
    folder.occupy(tmp_path / "country").close()


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(folder.FolderRefused, match="holds other things"):
        folder.occupy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_only_what_a_sandbox_made_is_cleared(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    place = folder.occupy(tmp_path / "country")
    assert not place.clear()
    for name in ("logs", "keys"):
        (place.make(name) / "file").touch()
    (place.path / "notes.txt").touch()
    (place.path / "valkey").symlink_to(outside)
    assert place.clear()
    assert sorted(path.name for path in place.path.iterdir()) == [folder.LOCK, "notes.txt"]
    assert (outside / "kept").exists()
    place.close()


def test_the_table_is_read_as_it_was_written_and_closed_to_others(tmp_path: Path) -> None:
    place = folder.occupy(tmp_path / "country")
    place.write_table(_table(tmp_path))
    assert folder.read_table(place.path) == _table(tmp_path)
    assert (place.path / folder.TABLE).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in place.path.iterdir()) == [folder.LOCK, folder.TABLE]
    place.close()


def test_a_folder_without_a_sandbox_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(folder.FolderRefused, match="massar sandbox --dir"):
        folder.read_table(tmp_path)


def test_an_unreadable_table_is_told(tmp_path: Path) -> None:
    (tmp_path / folder.TABLE).write_text("{}")
    with pytest.raises(folder.FolderRefused, match="cannot be read"):
        folder.read_table(tmp_path)


def test_processes_of_another_boot_are_never_taken_for_living(tmp_path: Path) -> None:
    table = _table(tmp_path)
    assert table.running
    assert [row.name for row in table.living()] == ["rabat-valkey"]
    old = _table(tmp_path, boot_id="another")
    assert not old.running
    assert old.living() == []


def test_a_recycled_id_is_not_living(tmp_path: Path) -> None:
    own = proc.own_identity()
    another = proc.Identity(pid=own.pid, started_ticks=own.started_ticks - 1)
    row = folder.Row(name="rabat-valkey", site="rabat", kind="valkey", who=another)
    table = _table(tmp_path, processes=[row], supervisor=another)
    assert table.living() == []
    assert not table.running
