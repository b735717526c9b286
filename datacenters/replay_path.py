"""The datacenter's own write path, as a director uses it to replay: the same request, under the recorded key.

Invariant: it speaks to its own site's datacenter alone, and says so with a key of its own.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters import assertion, position
from datacenters.assertion import Sender
from datacenters.attempts import ANSWER_BYTES_MAX
from datacenters.journal import JournalRecord
from datacenters.position import NOWHERE
from datacenters.replay import Done, Mismatch, ReplayFailed
from datacenters.transport import PLAIN, AnswerTooLarge, content_of

TIMEOUT_S = 5.0
CONNECTIONS_MAX = 8

# With these the datacenter has judged the request; repeating it changes nothing.
_JUDGED = frozenset({400, 404, 409, 413, 422})
# But these say: not yet, or not under this epoch.
_PASSING = frozenset({"stale-epoch", "idempotency-key-in-progress"})


class _Problem(msgspec.Struct):
    slug: str = ""


_problem = msgspec.json.Decoder(_Problem)


class DatacenterPath:
    """Replays records of the datacenter's kind into the one of `site` at `url`."""

    def __init__(
        self,
        url: str,
        *,
        site: str,
        key: Ed25519PrivateKey,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._site = site
        self._key = key
        self._clock = clock
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=TIMEOUT_S,
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            headers=PLAIN,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def replay(self, record: JournalRecord, *, epoch: int) -> Done:
        """Do the write with its recorded key, verdict and time.

        Raises: Mismatch, ReplayFailed.
        """
        try:
            async with self._client.stream(
                record.method, record.target, content=record.body, headers=self._headers(record, epoch)
            ) as answer:
                content = await content_of(answer, bytes_max=ANSWER_BYTES_MAX)
        except (httpx.HTTPError, AnswerTooLarge) as error:
            raise ReplayFailed(f"the datacenter gives no answer: {type(error).__name__}") from error
        if answer.status_code in _JUDGED and (slug := _slug(content)) not in _PASSING:
            raise Mismatch(f"{answer.status_code} {slug}")
        if answer.status_code >= 300:
            raise ReplayFailed(f"the datacenter answers {answer.status_code} {_slug(content)}")
        at, order = _position(answer.headers), answer.headers.get("massar-order", "")
        if at == NOWHERE or not order.isdecimal():
            raise ReplayFailed("the datacenter does not say where it stands")
        return Done(at=at, order=int(order), repeated=answer.headers.get("massar-replayed") == "1")

    def _headers(self, record: JournalRecord, epoch: int) -> dict[str, str]:
        digest = base64.urlsafe_b64encode(record.digest).rstrip(b"=").decode()
        signed = assertion.sign(
            key=self._key,
            site=self._site,
            sender=Sender.DIRECTOR,
            audience=assertion.datacenter_audience(self._site),
            subject=record.subject,
            role=record.role,
            method=record.method,
            target=record.target,
            body=record.body,
            epoch=epoch,
            now=self._clock(),
        )
        return {
            "content-type": "application/json",
            "idempotency-key": record.key,
            "massar-epoch": str(epoch),
            "massar-replay": f"{record.decided_at:.6f}",
            "massar-replay-verdict": f"{record.status} {digest}",
            assertion.HEADER_NAME: signed,
        }


def _slug(content: bytes) -> str:
    try:
        return _problem.decode(content).slug
    except msgspec.MsgspecError:
        return ""


def _position(headers: Mapping[str, str]) -> position.Position:
    try:
        return position.parse(headers.get("massar-position", ""))
    except ValueError:
        return NOWHERE
