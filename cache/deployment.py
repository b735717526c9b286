"""Which Valkey to ask: one by itself, the one that Sentinels call the primary, or the node of a cluster that has the name.

Invariant: pure but for the connections that `find` is given a way to make; what it learns is forgotten as soon as it
proves wrong. Sources: Sentinel client guidelines, cluster specification (MOVED, ASK) of Valkey.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from cache.connection import Address, Command, ConnectionLost, Login, LoginRefused, Refused

PORT, SENTINEL_PORT = 6379, 26379
# A cluster has so many. The most hosts of a URL, and known nodes of a cluster that are asked at once where slots are.
SLOTS = 16_384
HOSTS_MAX = 16
NODES_ASKED_MAX = 3

# Asks one address, logged in so, once: the replies. Raises ConnectionLost, LoginRefused, TimeoutError.
Inquire = Callable[[Address, Login, Sequence[Command]], Awaitable[list[Any]]]


Found = TypeVar("Found")


class Deployment(Protocol):
    """Where names are kept."""

    login: Login
    # Whether names may be kept in different places, so that one command takes names of one place alone.
    parted: bool

    def address(self, name: bytes, /) -> Address | None:
        """Where a name is kept, None when that is to be found first."""

    async def find(self, inquire: Inquire, /) -> None:
        """Learn where names are kept. Raises `ConnectionLost` when nobody says."""

    def lost(self, address: Address, /) -> None:
        """Nobody answers there any more."""

    def refused(self, name: bytes, there: Address, refused: Refused, /) -> Address | None:
        """Where to ask instead for a name that was refused there; None when it was no matter of where."""


class Alone:
    """One Valkey at one address."""

    parted = False

    def __init__(self, address: Address, login: Login) -> None:
        self._address = address
        self.login = login

    def address(self, _name: bytes) -> Address | None:
        """The one address."""
        return self._address

    async def find(self, _inquire: Inquire) -> None:
        """Nothing to learn."""

    def lost(self, _address: Address) -> None:
        """It stays where it is."""

    def refused(self, _name: bytes, _there: Address, _refused: Refused) -> Address | None:
        """There is no other place."""
        return None


class Sentinels:
    """The primary of `service`, as one of its Sentinels calls it; whoever is asked has to call himself that, too."""

    parted = False

    def __init__(self, hosts: Sequence[Address], service: str, login: Login, sentinel_login: Login) -> None:
        self._hosts = list(hosts)
        self._service = service
        self._sentinel_login = sentinel_login
        self._primary: Address | None = None
        self.login = msgspec.structs.replace(login, of_primary=True)

    def address(self, _name: bytes) -> Address | None:
        """The primary, where it is known."""
        return self._primary

    async def find(self, inquire: Inquire) -> None:
        """Ask all Sentinels and believe the first one that knows. Raises `ConnectionLost`."""
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        self._primary = await _first(self._hosts, self._sentinel_login, question, inquire, _primary_told)

    def lost(self, address: Address) -> None:
        """The Sentinels are to be asked again."""
        if address == self._primary:
            self._primary = None

    def refused(self, _name: bytes, there: Address, refused: Refused) -> Address | None:
        """Who is a replica by now takes no writes."""
        if refused.code == "READONLY":
            self.lost(there)
        return None


class Cluster:
    """Nodes that have some of all slots each."""

    parted = True

    def __init__(self, seeds: Sequence[Address], login: Login) -> None:
        # Imported where there is a cluster: redis-py takes megabytes of every worker.
        from redis.crc import key_slot  # noqa: PLC0415

        self._seeds = tuple(seeds)
        self._slot_of = key_slot
        self._slots: list[Address | None] = [None] * SLOTS
        # Who had slots when they were last told, kept when nobody answers any more: the seeds may be gone for good by then.
        self._nodes: list[Address] = []
        self.login = login

    def address(self, name: bytes) -> Address | None:
        """The node that has the name's slot, where it is known."""
        return self._slots[self._slot_of(name)]

    async def find(self, inquire: Inquire) -> None:
        """Ask known nodes and seeds for all slots, and believe the first one that knows. Raises `ConnectionLost`."""
        # A refusal may have named one since.
        known = list(dict.fromkeys([*self._nodes, *self._named()]))
        asked, others = known[:NODES_ASKED_MAX], known[NODES_ASKED_MAX:]
        self._nodes = [*others, *asked][:SLOTS]  # where none of these answers, it is the others' turn
        hosts = list(dict.fromkeys([*asked, *self._seeds]))
        self._slots = await _first(hosts, self.login, ("CLUSTER", "SLOTS"), inquire, _slots_told)
        self._nodes = list(dict.fromkeys(self._named()))

    def lost(self, address: Address) -> None:
        """Its slots are to be looked for again, of the other nodes first: a replica of it may have them by now."""
        self._slots = [None if node == address else node for node in self._slots]
        if address in self._nodes:
            self._nodes.remove(address)
            self._nodes.append(address)

    def _named(self) -> list[Address]:
        return [node for node in self._slots if node is not None]

    def refused(self, name: bytes, there: Address, refused: Refused) -> Address | None:
        """Where MOVED or ASK points; only the first is for good."""
        words = refused.text.split()
        if len(words) != 3 or words[0] not in {"MOVED", "ASK"}:
            return None
        host, _, port = words[2].rpartition(":")
        if not port.isdecimal():
            return None
        node = Address(host or there.host, int(port))
        if words[0] == "MOVED":
            self._slots[self._slot_of(name)] = node
        return node


async def _first(
    hosts: Sequence[Address],
    login: Login,
    question: Command,
    inquire: Inquire,
    told: Callable[[Any, Address], Found | None],
) -> Found:
    """What the first of these hosts says that says anything: a silent one holds nobody up. Raises `ConnectionLost`."""

    async def one(host: Address) -> Found | None:
        (reply,) = await inquire(host, login, [question])
        return told(reply, host)

    asking = [asyncio.create_task(one(host)) for host in hosts]
    try:
        for answer in asyncio.as_completed(asking):
            try:
                if (found := await answer) is not None:
                    return found
            except (
                ConnectionLost,
                LoginRefused,
                TimeoutError,
                LookupError,
                TypeError,
                ValueError,
                AttributeError,
            ):
                continue  # not there, or what it says makes no sense
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise ConnectionLost("nobody says where it is")


def _primary_told(reply: Any, _host: Address) -> Address | None:
    if not isinstance(reply, list):
        return None
    host, port = reply
    return Address(host.decode(), int(port))


def _slots_told(reply: Any, host: Address) -> list[Address | None] | None:
    slots: list[Address | None] = [None] * SLOTS
    if not isinstance(reply, list) or not reply:
        return None
    for first, last, primary, *_ in reply:
        # Without a name of its own it is the one that was asked.
        node = Address((primary[0] or b"").decode() or host.host, int(primary[1]))
        slots[first : last + 1] = [node] * (last + 1 - first)
    return slots if len(slots) == SLOTS else None


def deployment_at(url: str) -> Deployment:
    """The deployment that a URL names. Raises ValueError, without the URL's password.

    `redis://` (`rediss://` under TLS) `[user:password@]host[:port][/database]`; `unix://[user:password@]/path`;
    `redis+sentinel://[user:password@]host[:port],…/service[/database][?sentinel_password=…]`;
    `redis+cluster://[user:password@]host[:port],…`; with `valkey` for `redis` as well. `?ssl_ca_certs=FILE` names who
    signs their certificates.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if scheme not in {"redis", "rediss", "valkey", "valkeys", "unix"} or kind not in {
        "",
        "sentinel",
        "cluster",
    }:
        raise ValueError(
            "a Valkey URL begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    path = [unquote(piece) for piece in parts.path.split("/") if piece]
    database = path[-1] if path and (kind == "" or len(path) > 1) else options.get("db", "0")
    if scheme == "unix":
        return Alone(Address(path=unquote(parts.path)), _login(parts, options.get("db", "0"), None))
    tls = (
        ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if scheme in {"rediss", "valkeys"}
        else None
    )
    login = _login(parts, database, tls)
    hosts = _hosts(parts, SENTINEL_PORT if kind == "sentinel" else PORT)
    if kind == "cluster":
        return Cluster(hosts, login)
    if kind == "sentinel":
        if not path:
            raise ValueError("redis+sentinel:// needs the name of the service as its path")
        own = Login(options.get("sentinel_username"), options.get("sentinel_password"), tls=tls)
        return Sentinels(hosts, path[0], login, own)
    if len(hosts) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    return Alone(hosts[0], login)


def _login(parts: SplitResult, database: str, tls: ssl.SSLContext | None) -> Login:
    if not database.isdigit():
        raise ValueError("the database of a Valkey URL is a number")
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return Login(user, password, int(database), tls)


def _hosts(parts: SplitResult, port: int) -> list[Address]:
    named = parts.netloc.rpartition("@")[2].split(",")
    if len(named) > HOSTS_MAX:
        raise ValueError(f"a Valkey URL names at most {HOSTS_MAX} hosts")
    found = []
    for one in named:
        try:
            host = urlsplit(f"//{one}")
            found.append(Address(host.hostname or "localhost", host.port or port))
        except ValueError:
            raise ValueError("a host of the Valkey URL is no host[:port]") from None
    return found
