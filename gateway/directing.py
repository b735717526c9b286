"""The director of one site, put together: where the datacenters' decisions meet the accounts that auth keeps.

Invariant: everything opened here is closed when it ends, and it ends in order on TERM and INT.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

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
from gateway.account_records import AccountsPath
from gateway.directing_settings import DirectorSettings, OwnGround, read_director_settings
from gateway.settings import SettingsError

T = TypeVar("T")
MESSAGE_CHARS_MAX = 200
_log = structlog.get_logger()
# What a rejoin command sees of the director's environment, which holds the passwords of its databases.
_HOOK_SEES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


def run_director(environment: Mapping[str, str]) -> None:
    """Direct one site until TERM or INT.

    Raises: SettingsError: a setting is missing or wrong.
    """
    settings = read_director_settings(environment)
    _log_as_json()
    asyncio.run(_run(settings, environment))


async def _run(settings: DirectorSettings, environment: Mapping[str, str]) -> None:
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
        folders=settings.director_folders,
    )
    working = asyncio.create_task(director.run())
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unretrieved)
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
        raise SettingsError(f"{name}: {error}") from error


def _hook(ground: OwnGround, environment: Mapping[str, str]) -> Hook | None:
    if not ground.rejoin_command:
        return None
    seen = {name: value for name in _HOOK_SEES if (value := environment.get(name))}
    return Hook(ground.rejoin_command, environment=seen)


def _log_unretrieved(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waits for any more, such as a connection cancelled half-way: one line of JSON like all others."""
    kind = type(context["exception"]).__name__ if "exception" in context else "none"
    _log.warning("event loop", message=str(context["message"])[:MESSAGE_CHARS_MAX], exception=kind)


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
