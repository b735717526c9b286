"""Looking at datacenters and users, and keeping what one site and the others saw in a form that can be judged.

Invariant: every age is measured by this process's own monotonic clock; no site's wall clock decides anything.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Iterable, Mapping

import httpx
import msgspec

from datacenters.transport import PLAIN, AnswerTooLarge, content_of
from datacenters.users_met import USERS_WINDOW_S
from datacenters.verdict import Health, Look, Observation

PROBE_TIMEOUT_S = 0.4
HEALTH_BYTES_MAX = 16_384
FRESH_S = 1.5
# An answer may be as old as the longest probe, and what it counts may be so much further back.
USERS_COMPARED_S = USERS_WINDOW_S - PROBE_TIMEOUT_S
USERS_MIN = 5
USERS_SNAPSHOTS_MAX = 64
SUCCESS_MIN = 0.5


class _Said(msgspec.Struct):
    site: str
    nonce: str
    role: str
    epoch: int
    position: str
    receipt_age_s: float | None = None
    lag_s: float | None = None
    writable: bool = False


class Counts(msgspec.Struct, frozen=True):
    """Users, each once a window, whom a datacenter served well and badly since the gateway began."""

    ok: int = 0
    failed: int = 0


_said_decoder = msgspec.json.Decoder(_Said)
_counts_decoder = msgspec.json.Decoder(dict[str, Counts])


class Prober:
    """Asks datacenters for their health, and the site's own gateway how its users fare."""

    def __init__(self, *, timeout_s: float = PROBE_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(trust_env=False, timeout=timeout_s, headers=PLAIN)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def health(self, datacenter: str, url: str) -> Health | None:
        """What the datacenter says of itself, to this very question; None for anything but a good answer in time."""
        nonce = secrets.token_urlsafe(9)
        raw = await self._get(f"{url}/health?nonce={nonce}")
        try:
            said = _said_decoder.decode(raw or b"")
        except msgspec.MsgspecError:
            return None
        if (said.site, said.nonce) != (datacenter, nonce):
            return None
        return Health(
            role=said.role,
            epoch=said.epoch,
            position=said.position,
            receipt_age_s=said.receipt_age_s,
            lag_s=said.lag_s,
            writable=said.writable,
        )

    async def outcomes(self, private_url: str) -> dict[str, Counts] | None:
        """How the gateway's users fared, by datacenter; None when it does not say."""
        raw = await self._get(f"{private_url.rstrip('/')}/internal/outcomes")
        try:
            return _counts_decoder.decode(raw or b"")
        except msgspec.MsgspecError:
            return None

    async def _get(self, url: str) -> bytes | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._client.stream("GET", url) as response:
                    content = await content_of(response, bytes_max=HEALTH_BYTES_MAX)
        except (httpx.HTTPError, TimeoutError, AnswerTooLarge):
            return None
        return content if response.status_code == 200 else None


class Looks:
    """One site's looks at every datacenter; `now` arguments are monotonic seconds."""

    def __init__(self, datacenters: Iterable[str], *, now: float) -> None:
        self._failures = dict.fromkeys(datacenters, 0)
        self._answered_at = dict.fromkeys(self._failures, now)
        self._health: dict[str, Health] = {}

    def note(self, datacenter: str, health: Health | None, *, now: float) -> None:
        """Take in one probe's result."""
        if health is None:
            self._failures[datacenter] += 1
            return
        self._failures[datacenter] = 0
        self._answered_at[datacenter] = now
        self._health[datacenter] = health

    def at(self, now: float) -> dict[str, Look]:
        """The looks as they stand."""
        return {
            name: Look(
                failures=failures,
                silent_s=round(max(0.0, now - self._answered_at[name]), 3),
                health=self._health.get(name),
            )
            for name, failures in self._failures.items()
        }


class Users:
    """Since when a datacenter has been failing most of one gateway's users, and how many it failed of late.

    What is compared is never further apart than the window in which the gateway counts a user once, so that a user
    is once in it at most for every process of the gateway.
    """

    def __init__(self) -> None:
        self._snapshots: deque[tuple[float, Mapping[str, Counts]]] = deque(maxlen=USERS_SNAPSHOTS_MAX)
        # By datacenter, since when and until when that was shown.
        self._failing: dict[str, tuple[float, float]] = {}
        self._failed: dict[str, int] = {}

    def note(self, counts: Mapping[str, Counts] | None, *, now: float) -> None:
        """Take in the gateway's counters; None (no word from it) proves nothing and ends every suspicion."""
        if counts is None:
            self._forget()
            return
        self._snapshots.append((now, counts))
        while self._snapshots[0][0] < now - USERS_COMPARED_S:
            self._snapshots.popleft()
        oldest = self._snapshots[0][1]
        for name, after in counts.items():
            before = oldest.get(name, Counts())
            ok, failed = after.ok - before.ok, after.failed - before.failed
            if ok < 0 or failed < 0:  # the gateway began again
                self._forget()
                self._snapshots.append((now, counts))
                return
            self._failed[name] = failed
            since, shown = self._failing.get(name, (now, -math.inf))
            if ok + failed >= USERS_MIN and ok < SUCCESS_MIN * (ok + failed):
                self._failing[name] = (since, now)
            elif ok + failed >= USERS_MIN or now - shown > USERS_WINDOW_S:
                # Few users show nothing for a window: those who failed together are counted together, then not again.
                self._failing.pop(name, None)

    def failed(self) -> dict[str, int]:
        """How many users each datacenter failed within the window."""
        return dict(self._failed)

    def failing_s(self, now: float) -> dict[str, float]:
        """For how long, by datacenter, most users have been failed without a pause."""
        return {name: round(now - since, 3) for name, (since, _) in self._failing.items()}

    def _forget(self) -> None:
        self._snapshots.clear()
        self._failing.clear()
        self._failed.clear()


class Board:
    """The observations of all sites, each fresh only while its director goes on publishing new ones."""

    def __init__(self, *, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._seen: dict[str, tuple[float, Observation]] = {}

    def note(self, observation: Observation, *, now: float) -> None:
        """Take in what a site publishes; a repetition of what is known does not make it fresher."""
        known = self._seen.get(observation.site)
        if known is None:
            # What was there when we came may have been left by a director that is gone: only its next one counts.
            self._seen[observation.site] = (-math.inf, observation)
        elif known[1].sequence != observation.sequence:
            # Another number, not a higher one: a director that began again counts from the start.
            self._seen[observation.site] = (now, observation)

    def fresh(self, now: float) -> dict[str, Observation]:
        """What the sites see now; those that fell silent are left out."""
        return {site: seen for site, (at, seen) in self._seen.items() if now - at <= self._fresh_s}
