"""From exceptions to problems: the only place where an error becomes an answer.

Invariant: what is answered is the table's text for a slug; what is logged is the exception's type and place.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, TypeAlias, cast

import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from gateway import trail
from gateway.metrics import Metrics
from gateway.scope import LANGUAGE_KEY, REQUEST_ID_KEY
from routes.problems import PROBLEMS, render, slug_of

_log = structlog.get_logger()

Problem: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]


class Failures:
    """Makes RFC 9457 problems of exceptions, in the caller's language."""

    def __init__(self, *, problem_base_url: str, metrics: Metrics) -> None:
        self._problem_base_url = problem_base_url
        self._metrics = metrics

    def render(self, scope: MutableMapping[str, Any], error: Exception) -> Problem:
        """Status, header pairs and body for the request of this ASGI scope."""
        slug, allow = _slug(error)
        trail.of(scope).slug = slug
        if slug == "internal":
            self._metrics.event("internal_error")
            _log.error("internal error", request_id=scope[REQUEST_ID_KEY], exc_info=error)
        return render(
            slug,
            language=scope[LANGUAGE_KEY],
            base_url=self._problem_base_url,
            request_id=scope[REQUEST_ID_KEY],
            pointer=getattr(error, "pointer", None),
            retry_after_s=_retry_after_s(error, slug),
            allow=allow,
        )

    def handle(self, request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        """As Litestar's exception handler."""
        status, headers, body = self.render(cast("dict[str, Any]", request.scope), error)
        named = {name.decode(): value.decode() for name, value in headers}
        media_type = named.pop("content-type")
        named.pop("content-length")
        return Response(body, status_code=status, headers=named, media_type=media_type)


def _slug(error: Exception) -> tuple[str, str | None]:
    if isinstance(error, MethodNotAllowedException):
        allow = (error.headers or {}).get("Allow") or (error.headers or {}).get("allow")
        return "method-not-allowed", allow
    if isinstance(error, NotFoundException):
        return "not-found", None
    if isinstance(error, ValidationException):
        return "bad-request", None
    if isinstance(error, HTTPException) and error.status_code == 413:
        return "body-too-large", None
    if isinstance(error, HTTPException) and 400 <= error.status_code < 500:
        return "bad-request", None
    return slug_of(error), None


def _retry_after_s(error: Exception, slug: str) -> float | None:
    asked = getattr(error, "retry_after_s", None)
    if isinstance(asked, int | float):
        return float(asked)
    return 1.0 if PROBLEMS[slug].status in {429, 503, 504} else None
