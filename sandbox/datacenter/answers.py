"""Answers as they leave: the headers every one of them carries, entity tags, 304.

Invariant: an entity tag is a digest of the body's bytes and of nothing else, so two reads of unchanged rows compare
equal on either site.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from litestar import Response
from litestar.enums import MediaType

from sandbox.datacenter.problems import PROBLEM_MEDIA_TYPE, PROBLEMS, problem_body
from sandbox.datacenter.standing import Standing

TAG_BYTES = 18


def etag(body: bytes) -> str:
    """A strong entity tag."""
    return '"' + base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:TAG_BYTES]).decode() + '"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """True when the caller already has what `tag` names (RFC 9110 §13.1.2, weak comparison)."""
    if if_none_match is None:
        return False
    known = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return tag in known or "*" in known


def http_date(as_of: str) -> str:
    """An RFC 3339 UTC time as `Last-Modified` writes it."""
    return format_datetime(datetime.fromisoformat(as_of).astimezone(UTC), usegmt=True)


def standing_headers(*, epoch: int, standing: Standing | None) -> dict[str, str]:
    """What every answer says about the datacenter; the position as it was last seen, if ever."""
    headers = {"Massar-Epoch": str(epoch)}
    if standing is not None:
        headers["Massar-Position"] = standing.position
        if standing.in_recovery and standing.data_age_s is not None:
            headers["Massar-Data-Age"] = f"{standing.data_age_s:.1f}"
    return headers


def answer(
    status: int, body: bytes, headers: Mapping[str, str], media_type: str = MediaType.JSON
) -> Response[bytes]:
    """Ready bytes with their headers; a 304 has none of either."""
    return Response(
        content=b"" if status == 304 else body,
        status_code=status,
        headers=dict(headers),
        media_type=media_type,
    )


def problem(slug: str, headers: Mapping[str, str], detail: str | None = None) -> Response[bytes]:
    """A problem document."""
    return answer(PROBLEMS[slug][0], problem_body(slug, detail), headers, PROBLEM_MEDIA_TYPE)
