"""The director of one site, put together: where the datacenters' decisions meet the accounts that auth keeps.

Invariant: a site with a datacenter starts only with all that a take-over needs (its databases, its keys); the witness
has none of it.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from auth.accounts import open_engine
from datacenters import sites
from datacenters.director import ETCD_TIMEOUT_S, Director
from datacenters.etcd import Etcd
from datacenters.feeds import Publisher
from datacenters.hook import Hook
from datacenters.journal import Kind
from datacenters.journal_seal import JournalSeal
from datacenters.quarantine import Quarantine
from datacenters.replay import Replay, Replayer
from datacenters.replay_path import DatacenterPath
from datacenters.sender_keys import read_private_key
from datacenters.sites import Site
from gateway.account_records import AccountsPath

T = TypeVar("T")


# What a rejoin command sees of the director's environment, which holds the passwords of its databases.
_HOOK_SEES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


class OwnGround(msgspec.Struct, frozen=True):
    """What stands at a site with a datacenter: both databases, the director's own key, the journal's."""

    records_dsn: str
    accounts_dsn: str
    key_file: Path
    journal_key_file: Path
    quarantine_dir: Path | None = None
    rejoin_command: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "OwnGround(…)"  # the addresses hold passwords


class Settings(msgspec.Struct, frozen=True):
    """What one director is told: its site, all sites, etcd's members (its own first), and its ground if it has one.

    `folders` are watched for room beside PostgreSQL's own.
    """

    site: str
    sites: dict[str, Site]
    etcd_urls: tuple[str, ...]
    ground: OwnGround | None = None
    folders: tuple[Path, ...] = ()


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings in `MASSAR_` variables.

    Raises: ValueError, which names the variable.
    """
    site = _setting(environment, "MASSAR_SITE")
    known = sites.parse(_setting(environment, "MASSAR_SITES"))
    ground = None
    if environment.get("MASSAR_DIRECTOR_DSN"):
        ground = OwnGround(
            records_dsn=environment["MASSAR_DIRECTOR_DSN"],
            accounts_dsn=_setting(environment, "MASSAR_DIRECTOR_ACCOUNTS_DSN"),
            key_file=Path(_setting(environment, "MASSAR_DIRECTOR_KEY_FILE")),
            journal_key_file=Path(_setting(environment, "MASSAR_JOURNAL_KEY_FILE")),
            quarantine_dir=Path(quarantine)
            if (quarantine := environment.get("MASSAR_QUARANTINE_DIR"))
            else None,
            rejoin_command=tuple(shlex.split(environment.get("MASSAR_REJOIN_COMMAND", ""))),
        )
        if ground.rejoin_command and not ground.quarantine_dir:
            raise ValueError(
                "MASSAR_REJOIN_COMMAND: not without MASSAR_QUARANTINE_DIR, where orphans are listed first"
            )
        if site not in sites.with_datacenter(known):
            raise ValueError("MASSAR_DIRECTOR_DSN: MASSAR_SITES names no datacenter at this site")
    elif site in sites.with_datacenter(known):
        raise ValueError("MASSAR_DIRECTOR_DSN: not set, and this site has a datacenter")
    urls = tuple(_setting(environment, "MASSAR_ETCD_URLS").split(","))
    folders = tuple(Path(one) for one in environment.get("MASSAR_DIRECTOR_FOLDERS", "").split(",") if one)
    return Settings(site=site, sites=known, etcd_urls=urls, ground=ground, folders=folders)


def run_director(environment: Mapping[str, str]) -> None:
    """Direct one site until TERM or INT.

    Raises: ValueError: a setting is missing or wrong.
    """
    settings = settings_from(environment)
    _log_as_json()
    asyncio.run(_run(settings, environment))


async def _run(settings: Settings, environment: Mapping[str, str]) -> None:
    ground, replay = settings.ground, None
    closing: list[Callable[[], Awaitable[None]]] = []
    etcd = Etcd(settings.etcd_urls, timeout_s=ETCD_TIMEOUT_S)
    if ground is not None:
        key = _loaded("MASSAR_DIRECTOR_KEY_FILE", read_private_key, ground.key_file)
        seal = _loaded("MASSAR_JOURNAL_KEY_FILE", JournalSeal.load, ground.journal_key_file)
        url = sites.with_datacenter(settings.sites)[settings.site]
        datacenter = DatacenterPath(url, site=settings.site, key=key)
        engine = open_engine(ground.accounts_dsn)
        closing += [datacenter.aclose, engine.dispose]
        paths: dict[Kind, Replayer] = {Kind.DATACENTER: datacenter, Kind.ACCOUNTS: AccountsPath(engine)}
        replay = Replay(etcd, Publisher(etcd), seal, paths)
    closing.append(etcd.aclose)
    director = Director(
        etcd,
        site=settings.site,
        sites=settings.sites,
        dsn=ground.records_dsn if ground else None,
        replay=replay,
        quarantine=Quarantine(ground.quarantine_dir) if ground and ground.quarantine_dir else None,
        hook=_hook(ground, environment) if ground else None,
        folders=settings.folders,
    )
    working = asyncio.create_task(director.run())
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, working.cancel)
    try:
        await asyncio.wait({working})
        if not working.cancelled():
            await working
    finally:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)
        for close in closing:
            await close()


def _loaded(name: str, load: Callable[[Path], T], path: Path) -> T:
    try:
        return load(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _hook(ground: OwnGround, environment: Mapping[str, str]) -> Hook | None:
    if not ground.rejoin_command:
        return None
    seen = {name: value for name in _HOOK_SEES if (value := environment.get(name))}
    return Hook(ground.rejoin_command, environment=seen)


def _setting(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise ValueError(f"{name}: not set")
    return value


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(),
    )
