from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters.assertion import ActingRole, Sender, sign
from sandbox.datacenter.admission import Admission, Admitted, HighestEpoch
from sandbox.datacenter.fence import StaleEpoch
from sandbox.datacenter.problems import Refused

KEY = Ed25519PrivateKey.generate()
KEYS = {f"{sender}:{site}": KEY.public_key() for sender in Sender for site in ("rabat", "marrakech")}
NOW = 1_790_000_000.0


class Door:
    """An admission with a clock that stands still, and a gateway that knocks."""

    def __init__(self) -> None:
        self.highest = HighestEpoch()
        self.now = NOW
        self.admission = Admission(site="rabat", keys=KEYS, highest=self.highest, clock=lambda: self.now)

    def token(self, *, epoch: int = 7, **changed: Any) -> str:
        claims: dict[str, Any] = {
            "key": KEY, "site": "rabat", "audience": "datacenter:rabat", "subject": "teacher", "role": "teacher",
            "method": "GET", "target": "/x", "body": b"", "epoch": epoch, "now": self.now,
        }  # fmt: skip
        return sign(**{**claims, **changed})

    def knock(self, token: str | None, *, epoch: str | None = "7") -> Admitted:
        return self.admission.admit(method="GET", target="/x", body=b"", epoch_header=epoch, token=token)


def test_an_honest_request_is_admitted_and_teaches_its_epoch() -> None:
    door = Door()
    assert door.knock(door.token()) == Admitted(
        subject="teacher", role=ActingRole.TEACHER, epoch=7, replays=False
    )
    assert door.highest.value == 7


@pytest.mark.parametrize(
    ("sender", "site", "replays"),
    [
        (Sender.DIRECTOR, "rabat", True),
        (Sender.DIRECTOR, "marrakech", False),
        (Sender.GATEWAY, "rabat", False),
        (Sender.GATEWAY, "marrakech", False),
    ],
)
def test_of_all_senders_the_own_director_alone_replays(sender: Sender, site: str, replays: bool) -> None:
    door = Door()
    assert door.knock(door.token(sender=sender, site=site)).replays is replays


def test_a_used_assertion_stays_used_until_it_has_expired() -> None:
    door = Door()
    token = door.token()
    door.knock(token)
    for later_s in (0, 29, 34.9):
        door.now = NOW + later_s
        with pytest.raises(Refused, match="assertion-invalid"):
            door.knock(token)


def test_a_refused_request_uses_up_nothing_and_teaches_nothing() -> None:
    door = Door()
    for token, epoch in (
        (door.token(epoch=9), "8"),
        (door.token(epoch=9, key=Ed25519PrivateKey.generate()), "9"),
    ):
        with pytest.raises(Refused, match="assertion-invalid"):
            door.knock(token, epoch=epoch)
    assert door.highest.value == 0


def test_an_epoch_below_the_highest_is_stale_and_tells_it() -> None:
    door = Door()
    door.highest.learn(9)
    with pytest.raises(StaleEpoch) as refused:
        door.knock(door.token())
    assert (refused.value.slug, refused.value.epoch, refused.value.status) == ("stale-epoch", 9, 409)


def test_the_highest_epoch_never_falls() -> None:
    highest = HighestEpoch()
    for epoch in (3, 7, 5):
        highest.learn(epoch)
    assert highest.value == 7
    highest.refuse_below(7)


@pytest.mark.parametrize(
    ("token", "epoch", "slug"),
    [(None, "7", "assertion-invalid"), ("x", None, "bad-request"), ("x", "x", "bad-request")],
)
def test_both_headers_are_required(token: str | None, epoch: str | None, slug: str) -> None:
    with pytest.raises(Refused, match=slug):
        Door().knock(token, epoch=epoch)
