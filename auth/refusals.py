"""Every way auth says no, each with the slug a caller will read.

Invariant: a refusal carries no login, token, claim or other text that a caller sent.
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """What every exception of this package derives from; `retry_after_s` is set where waiting helps."""

    slug: ClassVar[str]

    def __init__(self, *, retry_after_s: float | None = None) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class TokenMissing(Refusal):
    """No bearer token was presented."""

    slug = "token-missing"


class TokenInvalid(Refusal):
    """The bearer token is not one of ours, or not for this use."""

    slug = "token-invalid"


class TokenExpired(Refusal):
    """The bearer token was ours and has run out: exchange the refresh token."""

    slug = "token-expired"


class SessionEnded(Refusal):
    """The session of this token was signed out or died: sign in again."""

    slug = "session-ended"


class RoleNotAllowed(Refusal):
    """The caller's role may never use this route."""

    slug = "role-not-allowed"


class NotFound(Refusal):
    """No such thing, or no relation to it: the caller cannot tell which."""

    slug = "not-found"


class CredentialsInvalid(Refusal):
    """Login and password do not open an account of this app."""

    slug = "credentials-invalid"


class RefreshInvalid(Refusal):
    """The refresh token opens nothing (any more)."""

    slug = "refresh-invalid"


class RefreshReused(Refusal):
    """The refresh token had been exchanged before: its whole family is dead now."""

    slug = "refresh-reused"


class TooManyAttempts(Refusal):
    """Too many failed sign-ins for this account, from this device or in all."""

    slug = "too-many-attempts"


class UnsupportedGrant(Refusal):
    """The app asked for a way of signing in that is not offered."""

    slug = "unsupported-grant"


class Overloaded(Refusal):
    """A bounded waiting line of this package is full."""

    slug = "overloaded"


class AccountsUnavailable(Refusal):
    """No writable accounts database answers: nothing can be signed in, rotated or signed out now.

    The slug is that of any other write that finds nowhere to go.
    """

    slug = "read-only"


class KeysUnusable(Refusal):
    """The signing keys on disk cannot be used; a start stops here, a reload keeps the keys it had."""

    slug = "internal"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def __str__(self) -> str:
        """Which file is wrong and how; never key material."""
        return self.reason
