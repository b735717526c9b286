"""What opens was sealed here, for this name, and is whole."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.sealing import SealBroken, Sealer, SealingKeys

KEYS = SealingKeys(current=1, keys={1: b"\x01" * 32})
SEALER = Sealer(KEYS)
NAME = b"family:1:/v1/pupils/abc/grades"


@given(st.binary(), st.binary())
def test_what_is_sealed_opens_under_its_name(plain: bytes, name: bytes) -> None:
    assert SEALER.open(SEALER.seal(plain, name), name) == plain


@given(st.binary(max_size=60), st.data())
def test_a_flipped_bit_breaks_the_seal(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(plain, NAME))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealBroken):
        SEALER.open(bytes(sealed), NAME)


@given(st.binary(max_size=60), st.data())
def test_a_cut_breaks_the_seal(plain: bytes, data: st.DataObject) -> None:
    sealed = SEALER.seal(plain, NAME)
    with pytest.raises(SealBroken):
        SEALER.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], NAME)


@given(st.binary(max_size=200))
def test_garbage_is_not_sealed(garbage: bytes) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(garbage, NAME)


@given(st.binary(), st.binary(), st.binary())
def test_a_body_sealed_for_one_name_does_not_open_for_another(
    plain: bytes, name: bytes, other: bytes
) -> None:
    if name != other:
        with pytest.raises(SealBroken):
            SEALER.open(SEALER.seal(plain, name), other)


def test_the_same_plain_text_never_looks_the_same_and_is_not_readable() -> None:
    one, other = SEALER.seal(b"average 13.80", NAME), SEALER.seal(b"average 13.80", NAME)
    assert one != other
    assert b"13.80" not in one


def test_an_older_key_of_the_ring_still_opens_and_the_current_one_seals() -> None:
    rotated = Sealer(SealingKeys(current=2, keys={2: b"\x02" * 32, 1: b"\x01" * 32}))
    assert rotated.open(SEALER.seal(b"old", NAME), NAME) == b"old"
    with pytest.raises(SealBroken, match="unknown key"):
        SEALER.open(rotated.seal(b"new", NAME), NAME)


def test_a_key_id_cannot_be_exchanged() -> None:
    twins = Sealer(SealingKeys(current=1, keys={1: b"\x01" * 32, 2: b"\x01" * 32}))
    sealed = twins.seal(b"x", NAME)
    with pytest.raises(SealBroken):
        twins.open(b"\x02" + sealed[1:], NAME)


def test_a_key_file_names_the_current_key_first() -> None:
    keys = SealingKeys.parse(f"7 {'aa' * 32}\n3 {'bb' * 32}\n")
    assert keys.current == 7
    assert dict(keys.keys) == {7: b"\xaa" * 32, 3: b"\xbb" * 32}
    assert SealingKeys.parse("cc" * 32) == SealingKeys(current=0, keys={0: b"\xcc" * 32})


def test_names_stay_when_the_key_rotates() -> None:
    before = SealingKeys.parse("aa" * 32)
    after = SealingKeys.parse(f"1 {'bb' * 32}\n0 {'aa' * 32}")
    assert before.name_secret == after.name_secret
    assert before.name_secret != b"\xaa" * 32


def test_with_a_secret_of_their_own_names_stay_whatever_becomes_of_the_keys() -> None:
    alone = SealingKeys.parse("aa" * 32)
    for file in (
        f"names {'aa' * 32}\n{'aa' * 32}",
        f"{'aa' * 32}\nnames {'aa' * 32}",
        f"0 {'aa' * 32}\n1 {'bb' * 32}\nnames {'aa' * 32}\n",
        f"1 {'bb' * 32}\nnames {'aa' * 32}\n0 {'aa' * 32}",
        f"2 {'cc' * 32}\n\n  names {'aa' * 32}\n1 {'bb' * 32}",
    ):
        assert SealingKeys.parse(file).name_secret == alone.name_secret
    named = SealingKeys.parse(f"1 {'bb' * 32}\nnames {'aa' * 32}\n0 {'cc' * 32}")
    assert (named.current, dict(named.keys)) == (1, {1: b"\xbb" * 32, 0: b"\xcc" * 32})
    assert repr(named) == "SealingKeys(current=1, kids=[0, 1])"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "aa" * 31,
        "zz" * 32,
        f"256 {'aa' * 32}",
        f"-1 {'aa' * 32}",
        f"x {'aa' * 32}",
        f"{'aa' * 32}\n{'bb' * 32}",
        f"{'aa' * 32} {'aa' * 32}",
        f"1{'aa' * 32} {'bb' * 32}",
        f"²{'aa' * 32} {'bb' * 32}",
        f"names {'aa' * 32}",
        f"names {'aa' * 31}\n{'bb' * 32}",
        f"names {'zz' * 32}\n{'bb' * 32}",
        f"names {'aa' * 32}\n{'bb' * 32}\nnames {'aa' * 32}",
        f"1 names {'aa' * 32}\n{'bb' * 32}",
    ],
)
def test_a_bad_key_file_is_refused_without_showing_keys(text: str) -> None:
    with pytest.raises(ValueError) as refusal:
        SealingKeys.parse(text)
    told = "".join(traceback.format_exception_only(refusal.value)) + repr(refusal.value)
    assert refusal.value.__cause__ is None
    for material in ("aaaa", "zzzz", "bbbb"):
        assert material not in told


KEY_LINES = st.text(alphabet="0123456789abcdef \n\tnames_²", min_size=1, max_size=200)


@given(KEY_LINES, KEY_LINES)
def test_whatever_stands_in_a_key_file_no_error_repeats_it(one: str, other: str) -> None:
    secret = "f0e1d2c3b4a5968778695a4b3c2d1e0f" * 2
    told = ""
    try:
        SealingKeys.parse(f"{one}{secret}{other}")
    except ValueError as error:
        told = str(error)
    assert not any(secret[at : at + 6] in told for at in range(len(secret) - 6))


def test_the_current_key_is_in_the_ring() -> None:
    with pytest.raises(ValueError, match="not in the ring"):
        SealingKeys(current=2, keys={1: b"\x01" * 32})


def test_keys_do_not_show_in_a_repr() -> None:
    assert repr(KEYS) == "SealingKeys(current=1, kids=[1])"
    assert repr(KEYS) == str(KEYS)


@pytest.mark.parametrize("between", [" ", "  ", "\t "])
def test_more_than_one_blank_before_a_key_is_one(between: str) -> None:
    text = f"7{between}{'11' * 32}\nnames{between}{'22' * 32}\n"
    assert SealingKeys.parse(text) == SealingKeys.parse(f"7 {'11' * 32}\nnames {'22' * 32}\n")
