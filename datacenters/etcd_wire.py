"""etcd's JSON gateway as it is on the wire: integers of 64 bits are strings, what is false or zero is absent.

Invariant: nothing here is seen outside `datacenters/etcd.py`.
Source: etcd.io/docs dev-guide/api_grpc_gateway.
"""

from __future__ import annotations

import msgspec


class Header(msgspec.Struct, frozen=True):
    """What every answer begins with."""

    revision: int = 0


class Kv(msgspec.Struct):
    """A key as etcd writes it."""

    key: bytes
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class Ranged(msgspec.Struct):
    """The answer to a range read."""

    header: Header
    kvs: list[Kv] = []
    count: int = 0


class Within(msgspec.Struct):
    """A range read inside a transaction."""

    kvs: list[Kv] = []


class Response(msgspec.Struct):
    """One answer inside a transaction; others than range reads are passed over."""

    response_range: Within | None = None


class Changed(msgspec.Struct):
    """The answer to a put, a delete or a transaction."""

    header: Header
    succeeded: bool = False  # absent when false
    responses: list[Response] = []


class Member(msgspec.Struct, rename="camel"):
    """What a member says of itself."""

    db_size_in_use: int = 0


class Granted(msgspec.Struct):
    """A new lease."""

    ID: int


class Kept(msgspec.Struct):
    """A lease renewed; 0 seconds when it is gone."""

    TTL: int = 0  # absent when the lease is gone


class KeptEnvelope(msgspec.Struct):
    """A streamed answer, of which there is one."""

    result: Kept


class Event(msgspec.Struct):
    """One change in a watch."""

    kv: Kv
    type: str = "PUT"  # absent for a put


class WatchResult(msgspec.Struct):
    """What a watch brings at once."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    events: list[Event] = []


class WatchMessage(msgspec.Struct):
    """One line of a watch."""

    result: WatchResult | None = None


class Problem(msgspec.Struct):
    """Why etcd did not do it."""

    message: str = ""
    code: int = 0


ENCODER = msgspec.json.Encoder()
RANGED = msgspec.json.Decoder(Ranged, strict=False)
CHANGED = msgspec.json.Decoder(Changed, strict=False)
MEMBER = msgspec.json.Decoder(Member, strict=False)
GRANTED = msgspec.json.Decoder(Granted, strict=False)
KEPT = msgspec.json.Decoder(KeptEnvelope, strict=False)
WATCHED = msgspec.json.Decoder(WatchMessage, strict=False)
PROBLEM = msgspec.json.Decoder(Problem, strict=False)
