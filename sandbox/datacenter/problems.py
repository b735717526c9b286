"""What a datacenter says when it does not do what was asked: one table from slug to status and title.

Invariant: a problem never repeats what the caller sent, nor what PostgreSQL said.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

PROBLEM_MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:massar:problem:"

# slug → (status, title). Titles are constant; the gateway rewrites them in the caller's language.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "bad-request": (400, "Requête incompréhensible"),
    "idempotency-key-required": (400, "Clé d'idempotence requise"),
    "assertion-invalid": (401, "Attestation de la passerelle absente ou invalide"),
    "not-found": (404, "Introuvable"),
    "method-not-allowed": (405, "Méthode non permise"),
    "stale-epoch": (409, "Époque dépassée"),
    "gradebook-locked": (409, "Carnet de notes verrouillé"),
    "idempotency-key-in-progress": (409, "La même demande est en cours"),
    "idempotency-key-expired": (409, "Clé d'idempotence expirée"),
    "replay-mismatch": (409, "La reprise donne une autre réponse que la première fois"),
    "body-too-large": (413, "Corps de requête trop grand"),
    "idempotency-key-reused": (422, "Clé d'idempotence déjà utilisée pour une autre demande"),
    "internal": (500, "Erreur interne"),
    "read-only": (503, "Ce centre ne prend pas d'écritures"),
    "overloaded": (503, "Trop de demandes"),
    "records-unavailable": (503, "Dossiers scolaires injoignables"),
    "outcome-unknown": (504, "Issue inconnue"),
}

_RETRY_AFTER_S = {"read-only": 1, "overloaded": 1, "records-unavailable": 1, "idempotency-key-in-progress": 1}


class Refused(Exception):
    """The request is not done for the reason `slug`; `detail` is for engineers and holds nothing the caller sent."""

    def __init__(
        self, slug: str, detail: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(slug)
        self.slug = slug
        self.detail = detail
        self.headers = dict(headers or {})
        if slug in _RETRY_AFTER_S:
            self.headers["Retry-After"] = str(_RETRY_AFTER_S[slug])

    @property
    def status(self) -> int:
        """The HTTP status of the slug."""
        return PROBLEMS[self.slug][0]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer of 400 and above (RFC 9457)."""

    type: str
    title: str
    status: int
    slug: str
    detail: str | None = None


_encoder = msgspec.json.Encoder()


def problem_body(slug: str, detail: str | None = None) -> bytes:
    """The problem document for `slug`."""
    status, title = PROBLEMS[slug]
    return _encoder.encode(
        Problem(type=TYPE_PREFIX + slug, title=title, status=status, slug=slug, detail=detail)
    )
