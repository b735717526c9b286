"""What opens was sealed by a key of the ring, under exactly this name; nothing of it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters.journal_seal import NONCE_BYTES, TAG_BYTES, JournalKeys, JournalSeal, SealBroken

OLD, NEW = b"\x01" * 32, b"\x02" * 32
KEYS = JournalKeys(current=7, keys={7: NEW, 3: OLD})
SEAL = JournalSeal(KEYS)
SECRET = b"a teacher's marks"
KEY_FILE = f"7 {NEW.hex()}\n\n3 {OLD.hex()}\n"


@given(st.binary(max_size=2000), st.binary(max_size=64))
def test_what_was_sealed_opens_under_its_name(plain: bytes, name: bytes) -> None:
    assert SEAL.open(SEAL.seal(plain, name), name) == plain


def test_nothing_can_be_read_and_no_two_seals_are_alike() -> None:
    one, other = (SEAL.seal(SECRET, b"name") for _ in range(2))
    assert one != other
    assert len(one) == 1 + NONCE_BYTES + len(SECRET) + TAG_BYTES
    # Longer words alone: a sealed text holds any single letter often enough by chance.
    assert not any(word in one for word in (b"teacher", b"marks"))


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_under_another_name_it_does_not_open(name: bytes, other: bytes) -> None:
    if name != other:
        with pytest.raises(SealBroken):
            SEAL.open(SEAL.seal(SECRET, name), other)


@given(st.integers(0, 1 + NONCE_BYTES + len(SECRET) + TAG_BYTES - 1), st.integers(0, 7))
def test_no_bit_may_change_the_key_number_included(place: int, bit: int) -> None:
    sealed = bytearray(SEAL.seal(SECRET, b"name"))
    sealed[place] ^= 1 << bit
    with pytest.raises(SealBroken):
        SEAL.open(bytes(sealed), b"name")


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_breaks(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        SEAL.open(sealed, b"name")


def test_the_current_key_seals_and_the_older_ones_still_open() -> None:
    before = JournalSeal(JournalKeys(current=3, keys={3: OLD}))
    sealed = before.seal(SECRET, b"name")
    assert SEAL.open(sealed, b"name") == SECRET
    assert SEAL.seal(SECRET, b"name")[0] == 7
    with pytest.raises(SealBroken, match="not in the ring"):
        before.open(SEAL.seal(SECRET, b"name"), b"name")


def test_a_key_file_names_the_current_key_first(tmp_path: Path) -> None:
    path = tmp_path / "journal.key"
    path.write_text(KEY_FILE)
    assert JournalKeys.parse(KEY_FILE) == KEYS
    assert JournalSeal.load(path).open(SEAL.seal(SECRET, b"name"), b"name") == SECRET
    assert JournalKeys.parse(OLD.hex()) == JournalKeys(current=0, keys={0: OLD})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        OLD.hex()[:-2],
        f"256 {OLD.hex()}",
        f"-1 {OLD.hex()}",
        f"one {OLD.hex()}",
        f"{OLD.hex()[:-1]}x",
        f"1 {OLD.hex()}\n1 {NEW.hex()}",
    ],
)
def test_a_key_file_that_is_none_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="journal key") as refused:
        JournalKeys.parse(text)
    assert "0101" not in str(refused.value)
    assert "0202" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_file_that_is_not_ascii_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.key"
    path.write_bytes(b"\xff" * 32)
    with pytest.raises(ValueError, match="ascii"):
        JournalSeal.load(path)


def test_keys_never_show_in_a_repr() -> None:
    assert repr(KEYS) == "JournalKeys(current=7, kids=[3, 7])"
