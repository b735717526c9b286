"""Identifiers of the synthetic country: reproducible from the seed, unique by construction or by width.

Invariant: nothing here can be mistaken for a living person's: Massar codes start at 9 after the letter,
PPR numbers at 9, and telephone numbers hold a 0 after the country code, which no operator is given.
"""

from __future__ import annotations

from random import Random

_ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
_LETTER_OF_BYTE = bytes(_ALPHABET[byte % 32] for byte in range(256))
_GRESA_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"

# Odd and no multiple of 5: multiplying by it permutes the eight-digit numbers, so neighbours in a class
# do not carry neighbouring codes and none is ever given twice.
_SCATTER = 48_271_307
_FIRST_CODE = 40_271_853
_CODES = 100_000_000


def stream(seed: int, *labels: object) -> Random:
    """A generator of its own for one part of the country: parts may be drawn in any order, or not at all."""
    return Random("/".join((str(seed), *map(str, labels))))


def opaque_id(rng: Random) -> str:
    """Sixteen characters of [a-z2-7] (80 bits)."""
    return rng.randbytes(16).translate(_LETTER_OF_BYTE).decode("ascii")


def massar_code(letter: str, pupil_number: int) -> str:
    """A letter and nine digits, unique per pupil number below 100,000,000."""
    return f"{letter}9{(_FIRST_CODE + pupil_number * _SCATTER) % _CODES:08d}"


def gresa(province_number: int, school_rank: int) -> str:
    """Five digits and a check letter, unique per province (1 to 82) and rank (0 to 999)."""
    digits = province_number * 1000 + school_rank
    return f"{digits:05d}{_GRESA_LETTERS[digits % len(_GRESA_LETTERS)]}"


def ppr(teacher_number: int) -> str:
    """Seven digits, unique per teacher number below 1,000,000."""
    return f"9{teacher_number:06d}"


def phone(guardian_number: int) -> str:
    """A number that cannot be dialled, unique per guardian number below 100,000,000."""
    return f"+2120{guardian_number:08d}"
