"""`massar sandbox revive`: what ended is started again on what the disk kept, until the site stands as the record says.

Invariant: only what is asked for is started, what runs is left alone, and servers are started by one revival at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import msgspec

from datacenters import control
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from sandbox import servers
from sandbox.folder import SITES, WITNESS
from sandbox.processes import ProcessFailed
from sandbox.servers import Servers

STANDS_WITHIN_S = 120.0
_POLL_S = 0.1
_ASK_WITHIN_S = 1.0

Say = Callable[[str], None]


class NothingToRevive(Exception):
    """The target is unknown, or all of it runs; the message says which."""


def wanted(target: str) -> list[tuple[str, str]]:
    """The servers behind a target, as (site, kind), each after what it needs.

    Raises: NothingToRevive: there is no such target.
    """
    everything = [(site, kind) for site in (*SITES, WITNESS) for kind in servers.kinds(site)]
    found = [
        (site, kind)
        for site, kind in everything
        if target in {site, f"{site}-{kind}"} or target == kind == "valkey"
    ]
    if not found:
        raise NothingToRevive(f"{target!r} is neither a site nor a process of the sandbox")
    return found


class Reviver:
    """Starts ended servers of one sandbox again."""

    def __init__(self, servers_: Servers) -> None:
        self._servers = servers_
        self._one_at_a_time = asyncio.Lock()

    async def revive(self, target: str, say: Say) -> None:
        """Start what has ended of `target` and return when its sites stand as the record says.

        Raises: NothingToRevive, ProcessFailed.
        """
        async with self._one_at_a_time:
            gone = [
                (site, kind) for site, kind in wanted(target) if self._servers.fleet.ended(f"{site}-{kind}")
            ]
            if not gone:
                raise NothingToRevive(f"all of {target} runs")
            for site, kind in gone:
                await self._servers.again(site, kind)
                say(f"{site}-{kind} runs again (pid {self._servers.fleet.running(f'{site}-{kind}').pid})")
        # Without the lock: a site may have to wait for what another revival brings.
        for site in dict.fromkeys(site for site, _ in gone):
            say(await self._stands(site))

    async def rejoin(self, site: str, active: str, say: Say) -> None:
        """Make a site's PostgreSQL follow `active`'s, if the record says that this one is active.

        Raises: NothingToRevive: the record says otherwise. ProcessFailed.
        """
        async with self._one_at_a_time:
            if site not in SITES or not await self._is_active(active, site):
                raise NothingToRevive(f"the record does not say that {active} is active")
            await self._servers.follow(site, active=active, say=say)

    async def _is_active(self, active: str, site: str) -> bool:
        etcd = Etcd(self._servers.plan.etcd_urls(site), timeout_s=_ASK_WITHIN_S)
        try:
            held = await control.read(etcd)
        except (EtcdUnavailable, EtcdRefused):
            return False
        finally:
            await etcd.aclose()
        return held is not None and held.record.target is None and held.record.active == active != site

    async def _stands(self, site: str) -> str:
        """Wait until the datacenter of a site is what the record makes of it; a sentence about it."""
        whole = all(not self._servers.fleet.ended(f"{site}-{kind}") for kind in servers.kinds(site))
        if site not in SITES or not whole:
            return f"{site}: {'everything' if whole else 'what was asked for'} runs"
        said = "nothing yet"
        async with httpx.AsyncClient(timeout=_ASK_WITHIN_S, trust_env=False) as client:
            etcd = Etcd(self._servers.plan.etcd_urls(site), timeout_s=_ASK_WITHIN_S)
            try:
                async with asyncio.timeout(STANDS_WITHIN_S):
                    while True:
                        done, said = await self._look(site, client, etcd)
                        if done:
                            return said
                        await asyncio.sleep(_POLL_S)
            except TimeoutError:
                raise ProcessFailed(
                    f"{site} does not stand as the record says after {STANDS_WITHIN_S:.0f} s: {said}"
                ) from None
            finally:
                await etcd.aclose()

    async def _look(self, site: str, client: httpx.AsyncClient, etcd: Etcd) -> tuple[bool, str]:
        try:
            held = await control.read(etcd)
            health = (await client.get(self._servers.health_url(site))).json()
        except (EtcdUnavailable, EtcdRefused, httpx.HTTPError, msgspec.MsgspecError, ValueError) as error:
            return False, f"no answer yet ({type(error).__name__})"
        if held is None:
            return False, "nothing is declared"
        declared = held.record
        state = f"{site} is a {health.get('role')} at epoch {health.get('epoch')}"
        if declared.target is not None:
            return False, f"{state} while {declared.target} takes over"
        if declared.active == site:
            good = servers.is_writable if declared.serving else servers.is_primary
            return good(health), f"{site} is active at epoch {declared.epoch}"
        if servers.is_streaming(health) and health["epoch"] == declared.epoch:
            return True, f"{site} is a standby that follows {declared.active} at epoch {declared.epoch}"
        return False, f"{state}, {declared.active} is active at {declared.epoch}"
