from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from sandbox.population.identifiers import gresa, massar_code, opaque_id, phone, ppr, stream


def test_an_opaque_id_is_sixteen_characters_of_base32() -> None:
    rng = stream(1, "x")
    ids = {opaque_id(rng) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[a-z2-7]{16}", one) for one in ids)


def test_streams_are_the_same_for_the_same_labels_and_differ_otherwise() -> None:
    assert stream(1, 2, "marks").random() == stream(1, 2, "marks").random()
    assert stream(1, 2, "marks").random() != stream(1, 2, "lessons").random()
    assert stream(1, 2, "marks").random() != stream(2, 2, "marks").random()


@given(st.lists(st.integers(0, 99_999_999), unique=True))
def test_massar_codes_are_a_letter_and_nine_digits_and_never_repeat(numbers: list[int]) -> None:
    codes = {massar_code("R", number) for number in numbers}
    assert len(codes) == len(numbers)
    assert all(re.fullmatch(r"R9\d{8}", code) for code in codes)


def test_gresa_codes_are_five_digits_and_a_letter() -> None:
    codes = {gresa(province, rank) for province in range(1, 83) for rank in range(20)}
    assert len(codes) == 82 * 20
    assert all(re.fullmatch(r"\d{5}[A-Z]", code) for code in codes)


def test_staff_numbers_have_seven_digits_and_phones_cannot_be_dialled() -> None:
    assert ppr(42) == "9000042"
    assert phone(42) == "+212000000042"
