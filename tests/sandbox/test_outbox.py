"""Writes that wait survive any death of the process, and a torn line is a write that was promised to nobody."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import outbox
from sandbox.outbox import FileOutbox, MemoryOutbox, Outbox, Waiting

Make = Callable[[], Outbox]


def write(key: str, order: str = "/book") -> Waiting:
    return Waiting(key=key, method="PUT", path=f"{order}/entries", body='{"é":"ا\\n"}', order=order)


@pytest.fixture(params=["memory", "file"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Outbox:
    return MemoryOutbox() if request.param == "memory" else FileOutbox(tmp_path / "outbox")


def test_what_is_added_waits_in_its_order_until_it_is_ended(fresh: Outbox) -> None:
    for key in "abc":
        fresh.add(write(key))
    assert [each.key for each in fresh.waiting()] == ["a", "b", "c"]
    fresh.end("b", position="1-5")
    assert [each.key for each in fresh.waiting()] == ["a", "c"]


def test_one_key_waits_once(fresh: Outbox) -> None:
    fresh.add(write("a"))
    with pytest.raises(ValueError, match="key"):
        fresh.add(write("a"))


def test_the_newest_position_of_each_order_is_kept(fresh: Outbox) -> None:
    for key, order, position in (("a", "/x", "1-1"), ("b", "/y", "1-2"), ("c", "/x", "1-3")):
        fresh.add(write(key, order))
        fresh.end(key, position=position)
    fresh.add(write("d"))
    fresh.end("d")
    assert list(fresh.positions().items()) == [("/y", "1-2"), ("/x", "1-3")]


def test_all_of_it_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    first = FileOutbox(path)
    for key in "abc":
        first.add(write(key))
    first.end("a", position="1-7")
    second = FileOutbox(path)  # the first one was never closed: its phone was switched off
    assert second.waiting() == [write("b"), write("c")]
    assert second.positions() == {"/book": "1-7"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_key_added_twice_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    box = FileOutbox(tmp_path / "outbox")
    box.add(write("a"))
    with pytest.raises(ValueError, match="key"):
        box.add(write("a"))
    assert FileOutbox(tmp_path / "outbox").waiting() == [write("a")]


@given(
    steps=st.lists(st.sampled_from(["add", "end"]), max_size=12),
    cut=st.integers(0, 5_000),
    more=st.booleans(),
)
def test_a_file_cut_off_anywhere_holds_what_was_promised_before(
    steps: list[str], cut: int, more: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbox"
        box = FileOutbox(path)
        promised: list[tuple[int, list[str]]] = [(0, [])]
        waiting: list[str] = []
        for number, step in enumerate(steps):
            if step == "add":
                box.add(write(f"k{number}"))
                waiting.append(f"k{number}")
            elif waiting:
                box.end(waiting.pop(0), position=f"1-{number}")
            promised.append((path.stat().st_size, list(waiting)))
        box.close()
        raw = path.read_bytes()[:cut]
        path.write_bytes(raw)
        opened = FileOutbox(path)
        expected = [keys for size, keys in promised if size <= len(raw)][-1]
        assert [each.key for each in opened.waiting()] == expected
        if more:
            opened.add(write("more"))
            again = FileOutbox(path)
            assert [each.key for each in again.waiting()] == [*expected, "more"]
            again.close()
        opened.close()


def test_what_nobody_wrote_there_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    path.write_bytes(b"{\n")
    with pytest.raises(msgspec.DecodeError):
        FileOutbox(path)


def test_a_long_file_is_written_anew_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "ENDED_KEPT_MAX", 5)
    path = tmp_path / "outbox"
    box = FileOutbox(path)
    box.add(write("stays", "/stays"))
    for number in range(12):
        box.add(write(f"k{number}", f"/book{number % 2}"))
        box.end(f"k{number}", position=f"1-{number}")
    assert len(path.read_bytes().splitlines()) < 2 * 12
    again = FileOutbox(path)
    assert again.waiting() == box.waiting() == [write("stays", "/stays")]
    assert again.positions() == box.positions() == {"/book0": "1-10", "/book1": "1-11"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["outbox"]
