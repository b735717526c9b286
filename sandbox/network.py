"""Four network namespaces, each joined to each by a wire of its own, and what may go wrong on a wire.

A site's address sits on its `lo`, so that whoever reaches it does so over one known wire; the load is the fourth.

Invariant: nothing outside namespaces of our own names is touched, and those are removed at the end, or by the next
run when this one was killed.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
from pathlib import Path

from sandbox.folder import SITES, WITNESS
from sandbox.seats import NAMESPACES

PREFIX = "massar-chaos-"
PHONES = "phones"
PLACES = (*SITES, WITNESS, PHONES)
NET = "10.77"
TABLE = "massar"
LOCK = Path("/run/massar-chaos.lock")
COMMAND_WITHIN_S = 10.0


class NoNetwork(Exception):
    """Namespaces cannot be made here; the message says why."""


class Network:
    """The namespaces of one run; `make` first, `remove` at the end."""

    def __init__(self) -> None:
        self.address = {place: f"{NET}.{number}.1" for number, place in enumerate(PLACES, 1)}
        self.filters = shutil.which("nft") is not None
        self._lock: int | None = None

    @staticmethod
    def namespace(place: str) -> str:
        """The namespace's name."""
        return PREFIX + place

    @property
    def sandbox_options(self) -> tuple[str, ...]:
        """What tells `massar sandbox` where each site sits."""
        return tuple(
            word
            for site in (*SITES, WITNESS)
            for word in ("--site", f"{site}={self.address[site]}@{self.namespace(site)}")
        )

    def make(self) -> None:
        """Make the namespaces and wires, after removing what a killed run left.

        Raises: NoNetwork.
        """
        refuse_unless_possible()
        self._lock = _alone()
        self._clear()
        for place in PLACES:
            _run("ip", "netns", "add", self.namespace(place))
            self._inside(place, "ip", "link", "set", "lo", "up")
            self._inside(place, "ip", "addr", "add", f"{self.address[place]}/32", "dev", "lo")
            if self.filters:
                self._inside(place, "nft", f"add table ip {TABLE}")
                self._inside(
                    place, "nft", f"add chain ip {TABLE} heard {{ type filter hook input priority 0; }}"
                )
        for here, there in itertools.combinations(PLACES, 2):
            _run("ip", "-n", self.namespace(here), "link", "add", f"to-{there}", "type", "veth",
                 "peer", "name", f"to-{here}", "netns", self.namespace(there))  # fmt: skip
            for place, other in ((here, there), (there, here)):
                self._join(place, other)

    def remove(self) -> None:
        """Remove the namespaces, and let another run have the names."""
        if self._lock is not None:
            self._clear()
            os.close(self._lock)
            self._lock = None

    def _clear(self) -> None:
        for place in PLACES:
            if (NAMESPACES / self.namespace(place)).exists():
                _run("ip", "netns", "del", self.namespace(place))

    def cut(self, here: str, there: str) -> None:
        """Take the wire between two places down."""
        self._inside(here, "ip", "link", "set", f"to-{there}", "down")

    def mend(self, here: str, there: str) -> None:
        """Put it up again."""
        for place, other in ((here, there), (there, here)):
            self._join(place, other)

    def deafen(self, place: str, towards: str) -> None:
        """What `towards` sends no longer reaches `place`; the other way it does."""
        if self.filters:
            self._filter(place, f"ip saddr {self.address[towards]} counter drop")
        else:
            self._inside(towards, "ip", "route", "replace", "blackhole", f"{self.address[place]}/32")

    def lose(self, place: str, towards: str, *, per_thousand: int) -> None:
        """Of what `towards` sends to `place`, so many packets in a thousand are lost.

        Raises: NoNetwork.
        """
        if not self.filters:
            raise NoNetwork("random loss needs nft")
        # A comparison that is always true is refused.
        chance = f"numgen random mod 1000 < {per_thousand} " if per_thousand < 1000 else ""
        self._filter(place, f"ip saddr {self.address[towards]} {chance}counter drop")

    def lost_packets(self, place: str) -> int:
        """How many packets the filters of this place have dropped since it was last heard well."""
        said = self._inside(place, "nft", f"list chain ip {TABLE} heard").split()
        return sum(int(said[at + 1]) for at, word in enumerate(said) if word == "packets")

    def divert(self, place: str, *, port: int, to_port: int, mark: int) -> None:
        """New connections to `port` of `place` go to `to_port` there, but for those marked; old ones are broken.

        Raises: NoNetwork.
        """
        if not self.filters:
            raise NoNetwork("diverting connections needs nft")
        for chain, hook in (("arriving", "prerouting"), ("leaving", "output")):
            self._inside(
                place,
                "nft",
                f"add chain ip {TABLE} {chain} {{ type nat hook {hook} priority -100; }};"
                f" add rule ip {TABLE} {chain} ip daddr {self.address[place]} tcp dport {port}"
                f" meta mark != {mark} dnat to {self.address[place]}:{to_port}",
            )
        self._filter(place, f"tcp dport {port} meta mark != {mark} counter reject with tcp reset")

    def undivert(self, place: str) -> None:
        """Connections go where they are meant to again."""
        for chain in ("arriving", "leaving"):
            self._inside(place, "nft", f"delete chain ip {TABLE} {chain}")
        self.hear_all(place)

    def hear_all(self, place: str) -> None:
        """End `deafen` and `lose` at this place."""
        if self.filters:
            self._inside(place, "nft", f"flush chain ip {TABLE} heard")
        for other in PLACES:
            if other != place:
                self._join(other, place)

    def reaches(self, here: str, there: str, port: int, *, within_s: float = 1.0) -> bool:
        """Whether a connection from one place to a port of another can be made in time."""
        address = (self.address[there], port)
        attempt = f"import socket; socket.create_connection({address}, {within_s}).close()"
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace(here), "python3", "-c", attempt],
            capture_output=True,
            check=False,
            timeout=COMMAND_WITHIN_S,
        )
        return done.returncode == 0

    def _join(self, place: str, other: str) -> None:
        self._inside(place, "ip", "link", "set", f"to-{other}", "up")
        self._inside(place, "ip", "route", "replace", f"{self.address[other]}/32",
                     "dev", f"to-{other}", "src", self.address[place])  # fmt: skip

    def _filter(self, place: str, rule: str) -> None:
        self._inside(place, "nft", f"add rule ip {TABLE} heard {rule}")

    def _inside(self, place: str, *command: str) -> str:
        return _run("ip", "netns", "exec", self.namespace(place), *command)


def refuse_unless_possible() -> None:
    """Raise NoNetwork when this machine or user cannot make network namespaces."""
    if not Path("/proc/self/ns/net").exists():
        raise NoNetwork("network namespaces need Linux")
    if os.geteuid() != 0:
        raise NoNetwork("only root may make network namespaces")
    if shutil.which("ip") is None:
        raise NoNetwork("no `ip` on PATH (Debian: iproute2)")


def _alone() -> int:
    """The lock on our names; it ends with this process, however that ends."""
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise NoNetwork("another run has the namespaces of this name") from None
    return lock


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_WITHIN_S)
    if done.returncode != 0:
        raise NoNetwork(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
