"""What each process of a sandbox country is told: its addresses and the environment it starts with.

Invariant: pure; one place says which variable carries what, and passwords travel in environments alone.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sandbox import keys, ports, postgres, seats
from sandbox.etcd import Member
from sandbox.folder import SITES, WITNESS

DISPLAY_NAMES = {
    "rabat": {"ar": "الرباط", "fr": "Rabat"},
    "marrakech": {"ar": "مراكش", "fr": "Marrakech"},
    WITNESS: {"ar": "الشاهد", "fr": "Témoin"},
}
MASSAR = (sys.executable, "-P", "-m", "gateway")
_SITE_PORTS = ("gateway", "metrics", "datacenter", "postgres", "valkey", "etcd", "etcd-peer")
_WITNESS_PORTS = ("etcd", "etcd-peer")
PORT_NAMES = tuple(f"{site}.{kind}" for site in SITES for kind in _SITE_PORTS) + tuple(
    f"{WITNESS}.{kind}" for kind in _WITNESS_PORTS
)


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is settled before the first process starts."""

    folder: Path
    port: Mapping[str, int]
    passwords: postgres.Passwords
    workers: int
    base: Mapping[str, str]
    seated: Mapping[str, seats.Seat] = {}

    def seat(self, site: str) -> seats.Seat:
        """Return where a site sits; on loopback unless something else was asked for."""
        return self.seated.get(site, seats.ON_LOOPBACK)

    def callers(self) -> list[str]:
        """Return the address ranges from which anything here calls a database."""
        return seats.callers(self.seat(site) for site in (*SITES, WITNESS))

    def url(self, name: str) -> str:
        """Return the http address behind one of `PORT_NAMES`."""
        return f"http://{self.address(name)}"

    def address(self, name: str) -> str:
        """Return host and port behind one of `PORT_NAMES`."""
        return f"{self.seat(name.partition('.')[0]).host}:{self.port[name]}"

    def dsn(self, site: str, database: str, role: str) -> str:
        """Return the address of a site's database for a role."""
        return postgres.dsn(
            self.port[f"{site}.postgres"], database, role, self.passwords, host=self.seat(site).host
        )

    def members(self) -> tuple[Member, ...]:
        """Return the etcd members, Rabat's first."""
        return tuple(
            Member(
                name=site,
                client_port=self.port[f"{site}.etcd"],
                peer_port=self.port[f"{site}.etcd-peer"],
                seat=self.seat(site),
            )
            for site in (*SITES, WITNESS)
        )

    def etcd_urls(self, site: str) -> list[str]:
        """Return the members' client addresses, the site's own first."""
        own_first = sorted((*SITES, WITNESS), key=lambda name: name != site)
        return [self.url(f"{name}.etcd") for name in own_first]

    def datacenter(self, site: str) -> dict[str, str]:
        """Return the environment of a site's datacenter."""
        folder = self.folder / "keys"
        return {
            **self.base,
            "MASSAR_DIE_WITH_PARENT": "1",
            "MASSAR_DATACENTER_SITE": site,
            "MASSAR_DATACENTER_RECORDS_DSN": self.dsn(site, postgres.RECORDS, "massar_records"),
            "MASSAR_DATACENTER_ASSERTION_KEYS": str(folder),
            "MASSAR_DATACENTER_NOTICE_KEY": str(folder / f"datacenter-{site}.pem"),
            "MASSAR_DATACENTER_NOTICE_URLS": ",".join(self.url(f"{name}.metrics") for name in SITES),
        }

    def director(self, site: str) -> dict[str, str]:
        """Return the environment of a site's director; the witness has no database."""
        sites = {
            name: {
                "datacenter_url": self.url(f"{name}.datacenter"),
                "private_url": self.url(f"{name}.metrics"),
                "name": DISPLAY_NAMES[name],
            }
            for name in SITES
        }
        folder = self.folder / "keys"
        own = self.dsn(site, postgres.RECORDS, "massar_director") if site in SITES else ""
        return {
            **self.base,
            "MASSAR_DIE_WITH_PARENT": "1",
            "MASSAR_SITE": site,
            "MASSAR_SITES": _json({**sites, WITNESS: {"name": DISPLAY_NAMES[WITNESS]}}),
            "MASSAR_ETCD_URLS": ",".join(self.etcd_urls(site)),
            "MASSAR_DIRECTOR_DSN": own,
            **(
                {"MASSAR_DIRECTOR_ACCOUNTS_DSN": self.dsn(site, postgres.ACCOUNTS, "massar_accounts")}
                if own
                else {}
            ),
            **({"MASSAR_JOURNAL_KEY_FILE": str(folder / keys.JOURNAL_KEY)} if own else {}),
            **({"MASSAR_DIRECTOR_KEY_FILE": str(folder / f"director-{site}.pem")} if own else {}),
            **(self._rejoining(site) if own else {}),
        }

    def _rejoining(self, site: str) -> dict[str, str]:
        """How a director brings its site back: by asking this sandbox, which owns the site's PostgreSQL."""
        command = [*MASSAR, "sandbox", "rejoin", site, "--dir", str(self.folder)]
        return {
            "MASSAR_QUARANTINE_DIR": str(self.folder / "quarantine" / site),
            "MASSAR_REJOIN_COMMAND": shlex.join(command),
        }

    def gateway(self, site: str, *, valkey_url: str) -> dict[str, str]:
        """Return the environment of a site's gateway."""
        sites = {
            name: {
                "datacenter_url": self.url(f"{name}.datacenter"),
                "accounts_dsn": self.dsn(name, postgres.ACCOUNTS, "massar_accounts"),
                "private_url": self.url(f"{name}.metrics"),
                "name": DISPLAY_NAMES[name],
            }
            for name in SITES
        }
        folder = self.folder / "keys"
        return {
            "MASSAR_SHOW_CACHE_STATUS": "true",
            "MASSAR_DRAIN_S": "0.2",
            "MASSAR_STOP_S": "3",
            **self.base,
            "MASSAR_DIE_WITH_PARENT": "1",
            "MASSAR_SITE": site,
            "MASSAR_SITES": _json(sites),
            "MASSAR_ETCD_URLS": ",".join(self.etcd_urls(site)),
            "MASSAR_VALKEY_URL": valkey_url,
            "MASSAR_ACCESS_KEYS_DIR": str(folder / keys.ACCESS),
            "MASSAR_ASSERTION_KEY_FILE": str(folder / f"gateway-{site}.pem"),
            "MASSAR_NOTICE_KEYS_DIR": str(folder),
            "MASSAR_SEAL_KEY_FILE": str(folder / keys.SEAL_KEY),
            "MASSAR_JOURNAL_KEY_FILE": str(folder / keys.JOURNAL_KEY),
            "MASSAR_LISTEN": self.address(f"{site}.gateway"),
            "MASSAR_PRIVATE_LISTEN": self.address(f"{site}.metrics"),
            "MASSAR_WORKERS": str(self.workers),
            "MASSAR_METRICS_DIR": str(self.folder / "metrics" / site),
        }


def allot(given: Mapping[str, int], seated: Mapping[str, seats.Seat] | None = None) -> dict[str, int]:
    """Return a port for every name in `PORT_NAMES`: the given one, else a free one.

    Raises: PortTaken: a given one is in use, or given twice.
    """
    for name, port in given.items():
        seat = (seated or {}).get(name.partition(".")[0], seats.ON_LOOPBACK)
        # What listens inside a namespace cannot be seen from here; the server itself will tell.
        if seat.namespace is None and not ports.is_free(port, seat.host):
            raise ports.PortTaken(f"port {port} ({name}) is in use")
    if len(set(given.values())) < len(given):
        raise ports.PortTaken("the same port is given twice")
    missing = [name for name in PORT_NAMES if name not in given]
    free = ports.free_ports(len(missing), avoid=frozenset(given.values()))
    return {**given, **dict(zip(missing, free, strict=True))}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
