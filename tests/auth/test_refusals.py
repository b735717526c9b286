"""Refusals: one slug each, nothing of the caller's in them."""

from __future__ import annotations

from auth import refusals
from auth.refusals import KeysUnusable, Refusal, TooManyAttempts


def kinds() -> list[type[Refusal]]:
    """Every refusal of the package."""
    return [
        kind
        for kind in vars(refusals).values()
        if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal
    ]


def test_every_refusal_has_a_slug_of_its_own() -> None:
    slugs = [kind.slug for kind in kinds()]
    assert len(slugs) == len(set(slugs)) == 14


def test_a_refusal_says_when_to_come_back_only_if_told() -> None:
    assert TooManyAttempts().retry_after_s is None
    assert TooManyAttempts(retry_after_s=3.0).retry_after_s == 3.0


def test_a_refusal_carries_no_text() -> None:
    for kind in kinds():
        if kind is not KeysUnusable:
            assert str(kind()) == ""


def test_unusable_keys_say_which_file() -> None:
    assert str(KeysUnusable("keys/current: names no key")) == "keys/current: names no key"
