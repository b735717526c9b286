"""What each member of etcd says of itself: its version, size, leader, alarms; what a look at the whole is made of.

Invariant: every member is asked by itself and within a bound; one that does not answer is a finding, not an error.
Source: etcd.io/docs v3.5 dev-guide/api_reference (Maintenance, Cluster).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import httpx
import msgspec

from datacenters.transport import PLAIN, AnswerTooLarge, content_of

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 4 * 1024 * 1024
_FAILURES = (httpx.HTTPError, msgspec.MsgspecError, AnswerTooLarge)
_QUOTA = re.compile(rb"^etcd_server_quota_backend_bytes (\S+)$", re.MULTILINE)


class Member(msgspec.Struct, frozen=True):
    """One member as it answered; `failure` says why it did not. Sizes are bytes, `quota` 0 where it does not tell.

    `members` are the names of the whole cluster, as this one knows it.
    """

    url: str
    failure: str | None = None
    version: str = ""
    name_of_itself: int = 0
    leader: int = 0
    size: int = 0
    size_in_use: int = 0
    quota: int = 0
    alarms: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


class _Header(msgspec.Struct, frozen=True):
    member_id: int = 0


class _Status(msgspec.Struct, rename="camel"):
    header: _Header = _Header()
    version: str = ""
    db_size: int = 0
    db_size_in_use: int = 0
    leader: int = 0


class _Alarm(msgspec.Struct):
    alarm: str = "NONE"


class _Alarms(msgspec.Struct):
    alarms: list[_Alarm] = []


class _Named(msgspec.Struct):
    name: str = ""


class _Listed(msgspec.Struct):
    members: list[_Named] = []


_status = msgspec.json.Decoder(_Status, strict=False)
_alarms = msgspec.json.Decoder(_Alarms, strict=False)
_listed = msgspec.json.Decoder(_Listed, strict=False)


async def look(urls: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> tuple[Member, ...]:
    """Every member's own word, asked side by side."""
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_s, headers=PLAIN) as client:
        return tuple(await asyncio.gather(*(_look(client, url.rstrip("/")) for url in urls)))


async def count(url: str, *, timeout_s: float = TIMEOUT_S) -> int:
    """How many members the cluster of this one has; 0 when it does not say."""
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_s, headers=PLAIN) as client:
        try:
            return len(await _members(client, url.rstrip("/")))
        except _FAILURES:
            return 0


async def _look(client: httpx.AsyncClient, url: str) -> Member:
    try:
        said = _status.decode(await _post(client, url + "/v3/maintenance/status", {}))
    except _FAILURES as error:
        return Member(url=url, failure=type(error).__name__)
    # A member without a majority answers for itself, but neither of the cluster nor of its alarms.
    alarms: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    quota = 0
    try:
        quota = await _quota(client, url)
        raised = _alarms.decode(await _post(client, url + "/v3/maintenance/alarm", {"action": "GET"}))
        alarms = tuple(one.alarm for one in raised.alarms)
        members = await _members(client, url)
    except _FAILURES:
        pass
    return Member(
        url=url,
        version=said.version,
        name_of_itself=said.header.member_id,
        leader=said.leader,
        size=said.db_size,
        size_in_use=said.db_size_in_use,
        quota=quota,
        alarms=alarms,
        members=members,
    )


async def _members(client: httpx.AsyncClient, url: str) -> tuple[str, ...]:
    listed = _listed.decode(await _post(client, url + "/v3/cluster/member/list", {}))
    return tuple(sorted(one.name for one in listed.members))


async def _post(client: httpx.AsyncClient, url: str, asked: dict[str, str]) -> bytes:
    async with client.stream("POST", url, json=asked) as answer:
        answer.raise_for_status()
        return await content_of(answer, bytes_max=ANSWER_BYTES_MAX)


async def _quota(client: httpx.AsyncClient, url: str) -> int:
    async with client.stream("GET", url + "/metrics") as answer:
        if answer.status_code != httpx.codes.OK:
            return 0
        try:
            found = _QUOTA.search(await content_of(answer, bytes_max=ANSWER_BYTES_MAX))
        except AnswerTooLarge:
            return 0
    return int(float(found[1])) if found else 0
