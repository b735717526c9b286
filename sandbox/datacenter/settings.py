"""What one datacenter process is told at its start.

Invariant: a wrong or missing value stops the start and names the variable; the address with its password never
shows in a repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

PREFIX = "MASSAR_DATACENTER_"
NOTICE_URLS_MAX = 16


class SettingWrong(Exception):
    """A setting is missing or unusable; the message names it."""


class Secret(str):
    """Text that prints as stars."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a datacenter process may be told."""

    site: str
    """The site it belongs to; the last part of its audience and of its sender name."""
    records_dsn: Secret
    """Where the school records are, as `postgresql://user:password@host:port/database`."""
    assertion_keys_dir: Path
    """Folder of `gateway-<site>.pub.pem`: whose assertions are believed."""
    notice_key_file: Path
    """The Ed25519 private key that signs notices."""
    notice_urls: tuple[str, ...] = ()
    """Private listeners of the gateways, without trailing slash."""
    body_bytes_max: int = 262_144
    """A larger request body is answered 413."""
    connections_max: int = 8
    """Connections to PostgreSQL for reads, and as many again for writes."""
    connection_wait_s: float = 0.5
    """How long a request waits for a free connection before it is answered `overloaded`."""
    connect_timeout_s: float = 0.5
    """How long PostgreSQL may take to accept a connection."""
    statement_timeout_s: float = 1.0
    """How long one statement may take, waiting for locks included."""
    transaction_timeout_s: float = 2.0
    """How long a write's transaction may live: the longest that raising the epoch waits for it."""
    guard_s: float = 1.5
    """How old the director's last sign of life in the `fence` row may be while writes are taken."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings in `MASSAR_DATACENTER_*`.

    Raises: SettingWrong.
    """
    return Settings(
        site=_required(environment, "SITE"),
        records_dsn=Secret(_required(environment, "RECORDS_DSN")),
        assertion_keys_dir=_existing(environment, "ASSERTION_KEYS"),
        notice_key_file=_existing(environment, "NOTICE_KEY"),
        notice_urls=_addresses(environment, "NOTICE_URLS"),
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(PREFIX + name, "").strip()
    if not value:
        raise SettingWrong(f"{PREFIX}{name} is missing")
    return value


def _existing(environment: Mapping[str, str], name: str) -> Path:
    path = Path(_required(environment, name))
    if not path.exists():
        raise SettingWrong(f"{PREFIX}{name}: no such file or folder")
    return path


def _addresses(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    urls = tuple(
        part.strip().rstrip("/") for part in environment.get(PREFIX + name, "").split(",") if part.strip()
    )
    if len(urls) > NOTICE_URLS_MAX:
        raise SettingWrong(f"{PREFIX}{name}: more than {NOTICE_URLS_MAX} addresses")
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise SettingWrong(f"{PREFIX}{name}: not an http address")
    return urls
