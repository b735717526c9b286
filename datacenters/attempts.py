"""One request to one datacenter, once: signed, bounded, timed, and its failure named for what it proves.

Invariant: `Failed.nothing_done` is true only when the connection was never made or the datacenter itself said so.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from urllib.parse import quote

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pyqwest import FullResponse, HTTPTransport, Transport

from datacenters import assertion, in_flight, position
from datacenters.forwarding_events import ForwardingEvents
from datacenters.in_flight import Priority
from datacenters.lane import Lane
from datacenters.position import NOWHERE, Position
from datacenters.sites import Sites, with_datacenter
from datacenters.transport import FAILURES, AnswerTooLarge, ask, direct_transport, never_connected
from datacenters.users_met import OnUser, UsersMet, nobody_listens

ANSWER_BYTES_MAX = 8 * 1024 * 1024
# An epoch of more digits is none that could be.
EPOCH_DIGITS_MAX = 18
DATA_AGE_MAX_S = 366 * 86_400.0

# With these a datacenter, or what stands before it, says that it does not work at all.
_AWAY_STATUSES = frozenset({502, 503, 504})
_OVERLOADED = "overloaded"
# With these slugs a 503 says that nothing was done.
_NOTHING_DONE = frozenset({"read-only", "switching", _OVERLOADED})
# With these a datacenter answers for itself although it does not do what was asked.
_OWN_WORDS = _NOTHING_DONE | {"outcome-unknown"}
_STALE_EPOCH = "stale-epoch"
_NOT_BELIEVED = "assertion-invalid"
_SAFE = "/?&=._~:@!$()*,;+%-"
_DOTS = re.compile(r"(?:\.|%2[eE]){1,2}")
# Nearly every target: nothing to escape, and no dot that could be a segment.
_PLAIN = re.compile(r"/[A-Za-z0-9_/-]*(?:\?[A-Za-z0-9_=&.-]*)?")


class Outcome(StrEnum):
    """What became of one request to one datacenter; all but OK count against it."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"


class Answer(msgspec.Struct, frozen=True):
    """A datacenter's answer below 500; header names are lower-case.

    `data_age_s` is the replay lag a standby admits to; `from_standby` when the answer is not the active one's.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    datacenter: str
    epoch: int
    position: Position
    data_age_s: float | None
    from_standby: bool = False


class Outgoing(msgspec.Struct, frozen=True):
    """What shall be asked, before it is known of whom; `target` is path and query, `plain` or made so when sent."""

    method: str
    target: str
    body: bytes
    headers: dict[str, str]
    subject: str
    role: str


class Failed(Exception):
    """The datacenter gave nothing usable; `away` when it does not answer anything, as far as this shows.

    `in_passing` when the next try at the same place may well end otherwise: the failure came at once, and was not
    the datacenter's own word that it does nothing of the kind now.
    """

    def __init__(self, message: str, *, nothing_done: bool, away: bool, in_passing: bool = False) -> None:
        super().__init__(message)
        self.nothing_done = nothing_done
        self.away = away
        self.in_passing = in_passing


class StaleEpoch(Failed):
    """The datacenter knows a higher `epoch` and did nothing."""

    def __init__(self, message: str, *, epoch: int) -> None:
        super().__init__(message, nothing_done=True, away=False)
        self.epoch = epoch


class _Problem(msgspec.Struct):
    slug: str = ""


_problem_decoder = msgspec.json.Decoder(_Problem)
_log = structlog.get_logger()


class Attempts:
    """Sends single requests in the name of the gateway of `site`.

    `on_outcome` hears of each one that was made, `on_user` of each user's first of each kind in a window. For a write
    the user is who acts; a read is made for whoever may see the answer, so there it is the path that is asked for.
    """

    def __init__(
        self,
        *,
        sites: Sites,
        site: str,
        assertion_key: Ed25519PrivateKey,
        on_outcome: Callable[[str, Outcome], None],
        on_user: OnUser = nobody_listens,
        transport: Transport | None = None,
        events: ForwardingEvents | None = None,
        in_flight_max: int = in_flight.CEILING,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._urls = with_datacenter(sites)
        self._site = site
        self._key = assertion_key
        self._on_outcome = on_outcome
        self._users_met = UsersMet(on_user, monotonic=monotonic)
        self._transport = transport or direct_transport()
        self._clock = clock
        events = events or ForwardingEvents()
        self._lanes = {
            datacenter: Lane(datacenter, ceiling=in_flight_max, events=events, monotonic=monotonic)
            for datacenter in self._urls
        }

    def lane(self, datacenter: str) -> Lane:
        """What is known of the way to this datacenter."""
        return self._lanes[datacenter]

    async def send(
        self,
        datacenter: str,
        asked: Outgoing,
        *,
        epoch: int,
        epoch_max: int,
        within_s: float,
        priority: Priority,
    ) -> Answer:
        """The datacenter's answer below 500; one that names an epoch above `epoch_max` is none.

        Raises: Failed, StaleEpoch, Full, ValueError (a target that is not `plain`).
        """
        asked = msgspec.structs.replace(asked, target=plain(asked.target))
        lane = self._lanes[datacenter]
        read = asked.method == "GET"
        began = lane.enter(priority)
        try:
            async with asyncio.timeout(within_s):
                got = await ask(
                    self._transport,
                    asked.method,
                    self._urls[datacenter] + asked.target,
                    self._headers(datacenter, asked, epoch),
                    asked.body or None,
                    bytes_max=ANSWER_BYTES_MAX,
                )
        except FAILURES as error:
            raise self._failure(datacenter, asked, error, began) from error
        except AnswerTooLarge as error:
            if error.status in _AWAY_STATUSES:
                lane.broken()
            else:
                lane.answered(began, read=read, refused=False)
            self._met(datacenter, asked, Outcome.ERROR)
            raise Failed(
                f"{datacenter} answered beyond every bound",
                nothing_done=False,
                away=error.status in _AWAY_STATUSES,
            ) from error
        except BaseException:
            lane.gave_up(began, read=read)
            raise
        slug = slug_of(got.content) if got.status in _AWAY_STATUSES else ""
        if got.status in _AWAY_STATUSES and slug not in _OWN_WORDS:
            lane.broken()
        else:
            lane.answered(began, read=read, refused=slug == _OVERLOADED)
        return self._judged(datacenter, asked, got, epoch_max)

    async def aclose(self) -> None:
        """Close every connection."""
        if isinstance(self._transport, HTTPTransport):
            await self._transport.aclose()

    def _headers(self, datacenter: str, asked: Outgoing, epoch: int) -> dict[str, str]:
        signed = assertion.sign(
            key=self._key,
            site=self._site,
            audience=assertion.datacenter_audience(datacenter),
            subject=asked.subject,
            role=asked.role,
            method=asked.method,
            target=asked.target,
            body=asked.body,
            epoch=epoch,
            now=self._clock(),
        )
        return {**asked.headers, "massar-epoch": str(epoch), assertion.HEADER_NAME: signed}

    def _failure(self, datacenter: str, asked: Outgoing, error: Exception, began: float) -> Failed:
        lane = self._lanes[datacenter]
        if never_connected(error):
            lane.unreachable()
            self._met(datacenter, asked, Outcome.UNREACHABLE)
            return Failed(f"{datacenter} is unreachable", nothing_done=True, away=True)
        if isinstance(error, TimeoutError):
            lane.hung(began, read=asked.method == "GET")
            self._met(datacenter, asked, Outcome.TIMEOUT)
            return Failed(f"{datacenter} does not answer in time", nothing_done=False, away=True)
        lane.broken()
        self._met(datacenter, asked, Outcome.BROKEN)
        broke_off = f"{datacenter} broke off: {type(error).__name__}"
        return Failed(broke_off, nothing_done=False, away=True, in_passing=True)

    def _met(self, datacenter: str, asked: Outgoing, outcome: Outcome) -> None:
        self._on_outcome(datacenter, outcome)
        user = asked.target.partition("?")[0] if asked.method == "GET" else asked.subject
        self._users_met.note(datacenter, user, well=outcome is Outcome.OK)

    def _judged(self, datacenter: str, asked: Outgoing, got: FullResponse, epoch_max: int) -> Answer:
        headers = {name.lower(): value for name, value in got.headers.items()}
        if got.status >= 500:
            self._met(datacenter, asked, Outcome.ERROR)
            nothing_done = got.status == 503 and slug_of(got.content) in _NOTHING_DONE
            raise Failed(
                f"{datacenter} answered {got.status}",
                nothing_done=nothing_done,
                away=got.status in _AWAY_STATUSES,
                in_passing=not nothing_done,
            )
        if got.status == 401 and slug_of(got.content) == _NOT_BELIEVED:
            # The two sites' clocks or keys differ. No user counts as failed: a clock must never move anything.
            self._on_outcome(datacenter, Outcome.ERROR)
            _log.error(
                "datacenter does not believe this gateway: clocks or keys differ", datacenter=datacenter
            )
            raise Failed(f"{datacenter} does not believe this gateway", nothing_done=True, away=False)
        epoch = _whole(headers.get("massar-epoch"))
        if epoch > epoch_max:
            # Believed, it would end this worker's trust in every record to come, and be told to every datacenter.
            self._met(datacenter, asked, Outcome.ERROR)
            _log.error("datacenter names an epoch beyond every bound", datacenter=datacenter)
            raise Failed(f"{datacenter} names an impossible epoch", nothing_done=False, away=False)
        self._met(datacenter, asked, Outcome.OK)
        answer = Answer(
            status=got.status,
            headers=headers,
            body=got.content,
            datacenter=datacenter,
            epoch=epoch,
            position=_position(headers.get("massar-position")),
            data_age_s=_seconds(headers.get("massar-data-age")),
        )
        if got.status == 409 and slug_of(got.content) == _STALE_EPOCH:
            raise StaleEpoch(f"{datacenter} is at epoch {answer.epoch}", epoch=answer.epoch)
        return answer


def plain(target: str) -> str:
    """The target with everything escaped that the transport would escape by itself: what is signed is what is sent.

    Raises: ValueError for a target whose path the transport would change (`.` and `..` segments, no leading slash).
    """
    return target if _PLAIN.fullmatch(target) else _escaped(target)


def _escaped(target: str) -> str:
    path = target.partition("?")[0]
    if not path.startswith("/") or any(_DOTS.fullmatch(segment) for segment in path.split("/")):
        raise ValueError(f"not a plain target: {target[:80]!r}")
    return quote(target, safe=_SAFE)


def slug_of(content: bytes) -> str:
    """The slug of a datacenter's problem, or nothing."""
    try:
        return _problem_decoder.decode(content).slug
    except msgspec.MsgspecError:
        return ""


def _whole(text: str | None) -> int:
    if not text or not (text.isascii() and text.isdigit()):
        return 0
    return int(text) if len(text) <= EPOCH_DIGITS_MAX else sys.maxsize


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else None
    except ValueError:
        return None
    if seconds is None:
        return None
    return max(0.0, seconds) if seconds < DATA_AGE_MAX_S else DATA_AGE_MAX_S  # which no number is, too


def _position(text: str | None) -> Position:
    try:
        return position.parse(text) if text else NOWHERE
    except ValueError:
        return NOWHERE
