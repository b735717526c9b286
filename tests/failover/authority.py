"""What may happen to etcd itself: its majority gone, its leader killed, all of it put back to an older state.

Invariant: a member is only ever started again by the sandbox that owns it, and a strike has bitten only when etcd
itself showed it: a leader that is another one, a majority that did not answer, a revision that fell.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import httpx
import msgspec

from datacenters import control
from datacenters.audit_chain import AuditRow
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from sandbox import asking, etcd, folder, proc
from sandbox.folder import SITES, WITNESS
from tests.countries import RunningCountry
from tests.failover.moves import Order, with_lost
from tests.journeys.breaking import audited, declared

MEMBERS = (*SITES, WITNESS)
ASK_WITHIN_S = 2.0
COMMAND_WITHIN_S = 30.0
AGAIN_WITHIN_S = 30.0
SILENT_FOR_S = 1.0
POLL_S = 0.05
# Writes that are acknowledged between a snapshot and its return, and how long nobody comes to help afterwards.
OLDER_BY_S = 4.0
UNHELPED_S = 4.0

Mend = Callable[[], None]
Inflicted = tuple[str, Mend]


class _Status(msgspec.Struct):
    leader: str = "0"


class _Member(msgspec.Struct, rename={"number": "ID", "peer_urls": "peerURLs"}):
    number: str
    name: str
    peer_urls: list[str]


class _Members(msgspec.Struct):
    members: list[_Member]


class Authority:
    """Strikes the etcd of one country; `logs` is a folder for snapshots and what is restored from them.

    What it orders as an operator would is noted in `orders`.
    """

    def __init__(self, country: RunningCountry, *, orders: list[Order], logs: Path) -> None:
        self._country = country
        self._orders = orders
        self._logs = logs
        self.lost_rows: list[AuditRow] = []
        """The audit rows as they stood before etcd was put back."""

    @property
    def strikes(self) -> dict[str, Callable[[str], Coroutine[None, None, Inflicted]]]:
        """How each strike is made, by its name; each takes where."""
        return {
            "stop the majority": self._stop_the_majority,
            "kill the leader": self._kill_the_leader,
            "restore etcd": self._restore,
            "restore etcd after a move": self._restore_after_a_move,
        }

    async def _stop_the_majority(self, staying: str) -> Inflicted:
        going = [name for name in MEMBERS if name != staying]
        self._kill(going)
        silent = await self._silent()

        def mend() -> None:
            self._start_again(going)

        return (f"{' and '.join(going)} gone, {staying} alone answers nothing" if silent else ""), mend

    async def _kill_the_leader(self, where: str) -> Inflicted:
        del where
        members = await self._members()
        before = await self._leader(members)
        if before is None:
            return "", _nothing
        self._kill([before])
        deadline = time.monotonic() + COMMAND_WITHIN_S
        after: str | None = before
        while after in {before, None} and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            after = await self._leader(members)

        def mend() -> None:
            self._start_again([before])

        return (f"{before} led and is gone, {after} leads" if after not in {before, None} else ""), mend

    async def _restore(self, where: str) -> Inflicted:
        del where
        snapshot = await self._snapshot()
        await pause(OLDER_BY_S)
        return await self._put_back(snapshot), self._redeclare

    async def _restore_after_a_move(self, where: str) -> Inflicted:
        snapshot = await self._snapshot()
        began = time.monotonic()
        code, _ = await self._country.massar("dc", "switchover", where)
        self._orders.append(Order(target=where, began=began, ended=time.monotonic()))
        if code != 0:
            return "", _nothing
        moved = await declared(self._country.addresses.etcd)
        await pause(OLDER_BY_S)
        back = await self._put_back(snapshot)
        older = await declared(self._country.addresses.etcd)
        if older.epoch >= moved.epoch:
            return "", _nothing
        await pause(UNHELPED_S)
        return f"{back}; its epoch fell from {moved.epoch} to {older.epoch}", self._redeclare

    def _redeclare(self) -> None:
        """What the runbook asks of an operator."""
        began = time.monotonic()
        code, said = asyncio.run(self._country.massar("dc", "redeclare"))
        assert code == 0, said
        active = asyncio.run(declared(self._country.addresses.etcd)).active
        self._orders.append(Order(target=active, began=began, ended=time.monotonic()))

    async def _snapshot(self) -> Path:
        path = self._logs / "etcd.snapshot"
        path.unlink(missing_ok=True)
        await self._command("snapshot", "save", str(path), "--endpoints", self._country.addresses.etcd[0])
        return path

    async def _put_back(self, snapshot: Path) -> str:
        """End every member and start all of them from the snapshot, at their old addresses."""
        members = await self._members()
        before = await self._revision()
        self.lost_rows = with_lost(await audited(self._country.addresses.etcd), self.lost_rows)
        self._kill(MEMBERS)
        peers = ",".join(f"{one.name}={one.peer_urls[0]}" for one in members)
        token = f"restored-{time.time_ns()}"
        for one in members:
            kept = self._country.directory / "etcd" / one.name
            shutil.rmtree(kept)
            await self._command(
                "snapshot", "restore", str(snapshot), "--name", one.name, "--data-dir", str(kept),
                "--initial-cluster", peers, "--initial-advertise-peer-urls", one.peer_urls[0],
                "--initial-cluster-token", token,
            )  # fmt: skip
        await asyncio.to_thread(self._start_again, MEMBERS)
        after = await self._revision()
        return f"etcd's revision fell from {before} to {after}" if after < before else ""

    async def _command(self, *words: str) -> None:
        program = etcdctl()
        assert program is not None, "this strike needs etcdctl"
        process = await asyncio.create_subprocess_exec(
            program, *words,
            env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(COMMAND_WITHIN_S):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()

    def _kill(self, names: tuple[str, ...] | list[str]) -> None:
        rows = [row for row in self._table().living() if row.kind == "etcd" and row.site in names]
        proc.kill_trees([row.who for row in rows])

    def _start_again(self, names: tuple[str, ...] | list[str]) -> None:
        """Ask the sandbox, which owns them, for each; none of them answers clients before there is a majority."""
        asked = [threading.Thread(target=self._revive, args=(f"{name}-etcd",), daemon=True) for name in names]
        for one in asked:
            one.start()
        for one in asked:
            one.join(AGAIN_WITHIN_S)
        living = {row.name for row in self._table().living()}
        assert {f"{name}-etcd" for name in names} <= living, "a member did not start again"

    def _revive(self, name: str) -> None:
        # The first sentence says that it runs; whether its site stands is not this strike's to wait for.
        next(asking.ask(self._country.directory, asking.Revive(name)))

    def _table(self) -> folder.Table:
        return self._country.table()

    async def _silent(self) -> bool:
        """Whether nothing that needs a majority is answered for a while."""
        client = Etcd(self._country.addresses.etcd, timeout_s=SILENT_FOR_S)
        try:
            await control.read(client)
        except (EtcdUnavailable, EtcdRefused):
            return True
        finally:
            await client.aclose()
        return False

    async def _revision(self) -> int:
        """etcd's own, once a majority answers."""
        client = Etcd(self._country.addresses.etcd, timeout_s=ASK_WITHIN_S)
        deadline = time.monotonic() + AGAIN_WITHIN_S
        try:
            while True:
                try:
                    return (await client.range("no-such-key/", prefix=True)).revision
                except (EtcdUnavailable, EtcdRefused):
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(POLL_S)
        finally:
            await client.aclose()

    async def _members(self) -> list[_Member]:
        async with httpx.AsyncClient(timeout=ASK_WITHIN_S, trust_env=False) as client:
            told = await client.post(self._country.addresses.etcd[0] + "/v3/cluster/member/list", json={})
        return msgspec.json.decode(told.content, type=_Members).members

    async def _leader(self, members: list[_Member]) -> str | None:
        """Whom the first member that answers calls the leader."""
        async with httpx.AsyncClient(timeout=ASK_WITHIN_S, trust_env=False) as client:
            for url in self._country.addresses.etcd:
                try:
                    told = await client.post(url + "/v3/maintenance/status", json={})
                    leader = msgspec.json.decode(told.content, type=_Status).leader
                except (httpx.HTTPError, msgspec.MsgspecError):
                    continue
                return next((one.name for one in members if one.number == leader), None)
        return None


def etcdctl() -> Path | None:
    """The client beside the etcd that countries of this run use; None where it is missing."""
    found = etcd.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))
    beside = found.with_name("etcdctl")
    return beside if beside.is_file() else None


async def pause(for_s: float) -> None:
    """Let the load go on for so long."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        await asyncio.sleep(POLL_S)


def _nothing() -> None:
    return None
