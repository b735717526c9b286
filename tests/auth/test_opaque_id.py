"""Opaque ids: their shape, and that nothing else passes for one."""

from __future__ import annotations

import pytest

from auth.opaque_id import is_opaque_id, new_id


def test_ids_are_different_and_of_one_shape() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_opaque_id(an_id) and len(an_id) == 16 for an_id in ids)


@pytest.mark.parametrize(
    "text", ["", "a" * 15, "a" * 17, "A" * 16, "a" * 15 + "1", "a" * 15 + "\x00", "a" * 16 + "\n", "ا" * 16]
)
def test_what_is_not_an_id_is_not_taken_for_one(text: str) -> None:
    assert not is_opaque_id(text)
