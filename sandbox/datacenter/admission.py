"""Who knocks, and under which epoch: nothing but `/health` is answered before this has been asked.

Invariant: an admitted request carries an assertion made for exactly this request and never seen before, and its
epoch is not below any epoch this process has ever learnt from an honest gateway or from the fence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from datacenters import assertion
from datacenters.single_use import SingleUse
from sandbox.datacenter.fence import StaleEpoch
from sandbox.datacenter.problems import Refused

_EPOCH = re.compile(r"[0-9]{1,18}")


class HighestEpoch:
    """The highest epoch known to this process; it never falls."""

    def __init__(self) -> None:
        self.value = 0

    def learn(self, epoch: int) -> None:
        """Remember `epoch` when it is news."""
        self.value = max(self.value, epoch)

    def refuse_below(self, epoch: int) -> None:
        """Raise StaleEpoch for an epoch that is over."""
        if epoch < self.value:
            raise StaleEpoch(self.value)


class Admitted(msgspec.Struct, frozen=True):
    """A request that may be answered: for whom is asked, under which epoch, and whether the own director replays."""

    subject: str
    role: assertion.ActingRole
    epoch: int
    replays: bool


class Admission:
    """Checks the epoch and assertion headers; remembers used assertions until they expire.

    `keys` are those of all gateways and of the site's own director, by issuer.
    """

    def __init__(
        self,
        *,
        site: str,
        keys: Mapping[str, Ed25519PublicKey],
        highest: HighestEpoch,
        clock: Callable[[], float],
    ) -> None:
        self._audience = assertion.datacenter_audience(site)
        self._director = assertion.issuer(assertion.Sender.DIRECTOR, site)
        self._keys = keys
        self._highest = highest
        self._clock = clock
        self._used = SingleUse()

    def admit(
        self, *, method: str, target: str, body: bytes, epoch_header: str | None, token: str | None
    ) -> Admitted:
        """The caller of this request; `target` is path and query exactly as sent.

        Raises: Refused (`assertion-invalid`, `bad-request`), StaleEpoch.
        """
        if token is None:
            raise Refused("assertion-invalid")
        if epoch_header is None or _EPOCH.fullmatch(epoch_header) is None:
            raise Refused("bad-request", "Massar-Epoch: a decimal integer is required")
        epoch, now = int(epoch_header), self._clock()
        try:
            claims = assertion.verify(
                token,
                keys=self._keys,
                audience=self._audience,
                method=method,
                target=target,
                body=body,
                epoch=epoch,
                now=now,
            )
        except assertion.AssertionInvalid as error:
            raise Refused("assertion-invalid") from error
        until = claims.exp + assertion.LEEWAY_S
        if not self._used.admit(f"{claims.iss} {claims.jti}", until=until, now=now):
            raise Refused("assertion-invalid")
        self._highest.refuse_below(epoch)
        self._highest.learn(epoch)
        replays = claims.iss == self._director
        return Admitted(subject=claims.sub, role=claims.role, epoch=epoch, replays=replays)
