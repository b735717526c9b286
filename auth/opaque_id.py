"""Ids that tell nothing: 16 characters of [a-z2-7], 80 random bits.

Invariant: an id made here is unguessable, safe in a URL and says nothing of whom it stands for.
"""

from __future__ import annotations

import base64
import re
import secrets

_ENTROPY_BYTES = 10
_SHAPE = re.compile(r"[a-z2-7]{16}", re.ASCII)


def new_id() -> str:
    """A fresh opaque id."""
    return base64.b32encode(secrets.token_bytes(_ENTROPY_BYTES)).decode("ascii").lower()


def is_opaque_id(text: str) -> bool:
    """Whether `text` has the shape of an id, so that nothing else is ever sent to a database."""
    return _SHAPE.fullmatch(text) is not None
