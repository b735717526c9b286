"""Shapes that several resources share on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from auth.principal import Name

Mark = Annotated[
    str, msgspec.Meta(pattern=r"^(1?[0-9]\.[0-9]{2}|20\.00)$", description="0.00 to 20.00, two decimals")
]
Day = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="ISO 8601 date")]
Clock = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{2}:[0-9]{2}$", description="local time of day")]
Instant = Annotated[str, msgspec.Meta(description="RFC 3339, UTC")]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64, description="opaque id")]
MarkState = Literal["marked", "absent", "dispensed", "pending"]


class Subject(msgspec.Struct, frozen=True):
    """A school subject with its labels."""

    code: str
    ar: str
    fr: str


NAME_EXAMPLE = {"ar": "سلمى العلمي", "fr": "Salma El Alami"}
SUBJECT_EXAMPLE = {"code": "MATH", "ar": "الرياضيات", "fr": "Mathématiques"}
PUPIL_ID_EXAMPLE = "p7k2m5q3x4a6b2c7"
CLASS_ID_EXAMPLE = "c3n5t2w7y4d6f2g3"
AS_OF_EXAMPLE = "2026-11-17T16:05:00Z"

__all__ = ["Clock", "Day", "Id", "Instant", "Mark", "MarkState", "Name", "Subject"]
