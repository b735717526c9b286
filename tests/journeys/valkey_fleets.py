"""Several real Valkeys that are one for those who ask: a primary under Sentinels, and a cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from sandbox import ports, proc, processes, valkey
from tests.waiting import eventually

READY_WITHIN_S = 10.0
SETTLED_WITHIN_S = 60.0
SLOTS = 16_384
SERVICE = "schools"
# How many Sentinels have to miss a primary.
QUORUM = 2


class Node:
    """One process of a fleet."""

    def __init__(self, port: int, bus_port: int, running: processes.Running) -> None:
        self.port = port
        self.bus_port = bus_port
        self.running = running
        self.client: Redis = Redis(host=ports.LOOPBACK, port=port)

    async def ask(self, *words: object) -> Any:
        """The reply to a command."""
        command: Any = self.client.execute_command
        return await command(*words)

    def kill(self) -> None:
        """SIGKILL."""
        self.running.kill()

    def signal(self, number: signal.Signals) -> None:
        """Have it stand still, or go on."""
        proc.send(self.running.who, number)


async def start(folder: Path, logs: Path, *settings: str, sentinel: bool = False) -> Node:
    """A Valkey with a working folder and a writable file of settings of its own."""
    port, bus_port = ports.free_ports(2)
    home = folder / str(port)
    home.mkdir(parents=True)
    written = home / "valkey.conf"
    bus = (
        [f"cluster-port {bus_port}"] if "cluster-enabled yes" in settings else []
    )  # else the port plus 10,000
    plain = (f"bind {ports.LOOPBACK}", f"port {port}", f"dir {home}", *bus, *settings)
    unsaved = (
        ()
        if sentinel
        else (
            'save ""',
            "appendonly no",
            "maxmemory 64mb",
            "maxmemory-policy volatile-ttl",
            "repl-diskless-sync-delay 0",
        )
    )
    written.write_text("\n".join([*plain, *unsaved]) + "\n")
    binary = str(valkey.binary(os.environ.get("MASSAR_VALKEY_BIN")))
    command = [binary, str(written), *(["--sentinel"] if sentinel else [])]
    node = Node(
        port, bus_port, processes.spawn(command, name=f"valkey-{port}", log=logs / "valkey-fleet.log")
    )

    async def answers() -> bool:
        try:
            return bool(await node.client.ping())
        except RedisError:
            return False

    await processes.ready(node.running, answers, within_s=READY_WITHIN_S)
    return node


class Watched:
    """A primary, its replica and three Sentinels."""

    def __init__(self, primary: Node, replica: Node, sentinels: list[Node]) -> None:
        self.primary = primary
        self.replica = replica
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """What the gateway is told."""
        hosts = ",".join(f"{ports.LOOPBACK}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def hold(self) -> None:
        """Have nobody promoted before `failed_over` is awaited."""
        await self._agree_by(len(self.sentinels) + 1)

    async def failed_over(self) -> None:
        """Wait until the replica is the primary."""
        await self._agree_by(QUORUM)

        async def promoted() -> bool:
            return bool((await self.replica.ask("ROLE"))[0] == b"master")

        await eventually(promoted, within_s=SETTLED_WITHIN_S)

    async def _agree_by(self, quorum: int) -> None:
        for one in self.sentinels:
            await one.ask("SENTINEL", "SET", SERVICE, "quorum", quorum)


@asynccontextmanager
async def watched(folder: Path, logs: Path) -> AsyncIterator[Watched]:
    """A primary with a replica, watched by three Sentinels that all know of each other and of the replica."""
    nodes: list[Node] = []
    try:
        primary = await start(folder, logs)
        nodes.append(primary)
        replica = await start(folder, logs, f"replicaof {ports.LOOPBACK} {primary.port}")
        nodes.append(replica)
        sentinels = []
        for _ in range(3):
            sentinels.append(
                await start(
                    folder,
                    logs,
                    f"sentinel monitor {SERVICE} {ports.LOOPBACK} {primary.port} {QUORUM}",
                    f"sentinel down-after-milliseconds {SERVICE} 500",
                    f"sentinel failover-timeout {SERVICE} 3000",
                    sentinel=True,
                )
            )
            nodes.append(sentinels[-1])
        fleet = Watched(primary, replica, sentinels)

        async def known() -> bool:
            told = [_facts(await one.ask("SENTINEL", "MASTER", SERVICE)) for one in sentinels]
            found = all((int(one["num-other-sentinels"]), int(one["num-slaves"])) == (2, 1) for one in told)
            return found and await _follows(replica)

        await eventually(known, within_s=SETTLED_WITHIN_S)
        yield fleet
    finally:
        await _end(nodes)


class Parted:
    """A cluster of three primaries; `replicas` holds the one of each, where they have any."""

    def __init__(self, nodes: list[Node], replicas: list[Node]) -> None:
        self.nodes = nodes
        self.replicas = replicas

    @property
    def url(self) -> str:
        """What the gateway is told: one node, which names the others."""
        return f"redis+cluster://{ports.LOOPBACK}:{self.nodes[0].port}"

    async def move(self, slot: int) -> None:
        """Move a slot from the node that has it to the next one, as a resharding does."""
        here, there = await self._owner(slot)
        own, other = await _id(here), await _id(there)
        await there.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", own)
        await here.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", other)
        while keys := await here.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                await here.ask("MIGRATE", ports.LOOPBACK, there.port, key, 0, 5000, "REPLACE")
        # Who takes it hears first: until then each of the two would send those who ask back to the other.
        for node in (there, here, *[one for one in self.nodes if one not in {there, here}]):
            await node.ask("CLUSTER", "SETSLOT", slot, "NODE", other)

    async def hold(self) -> None:
        """Have nobody promoted before `promoted` is awaited."""
        for replica in self.replicas:
            await replica.ask("CONFIG", "SET", "cluster-replica-no-failover", "yes")

    async def promoted(self, lost: Node) -> None:
        """Wait until all who are left agree that a lost primary's replica has its slots."""
        heir = self.replicas[self.nodes.index(lost)]
        await heir.ask("CONFIG", "SET", "cluster-replica-no-failover", "no")
        left = [node for node in (*self.nodes, *self.replicas) if node is not lost]

        async def agreed() -> bool:
            owners = [set(await self.owners(seen_by=node)) for node in left]
            return all(heir.port in one and lost.port not in one for one in owners)

        await eventually(agreed, within_s=SETTLED_WITHIN_S, what="the replica has the slots")

    async def slots_in_use(self) -> list[int]:
        """Slots that hold something."""
        return sorted({key_slot(key) for node in self.nodes for key in await node.ask("KEYS", "*")})

    async def owners(self, *, seen_by: Node) -> list[int]:
        """The port of the node that has each slot, in the eyes of one of them; 0 where it knows of none."""
        owners = [0] * SLOTS
        for first, last, member, *_ in await seen_by.ask("CLUSTER", "SLOTS"):
            owners[first : last + 1] = [int(member[1])] * (last + 1 - first)
        return owners

    async def _owner(self, slot: int) -> tuple[Node, Node]:
        owner = (await self.owners(seen_by=self.nodes[0]))[slot]
        place = [node.port for node in self.nodes].index(owner)
        return self.nodes[place], self.nodes[(place + 1) % len(self.nodes)]


@asynccontextmanager
async def parted(folder: Path, logs: Path, *, replicas: bool = False) -> AsyncIterator[Parted]:
    """A cluster of three nodes that agree about all slots; with `replicas`, one more follows each of them."""
    nodes: list[Node] = []
    try:
        for place in range(6 if replicas else 3):
            node = await start(
                folder,
                logs,
                "cluster-enabled yes",
                "cluster-node-timeout 1000",
                "cluster-replica-validity-factor 0",
                "cluster-require-full-coverage no",
            )
            nodes.append(node)
            if place < 3:
                first, last = SLOTS * place // 3, SLOTS * (place + 1) // 3 - 1
                await node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        primaries, others = nodes[:3], nodes[3:]
        for node in nodes[1:]:
            await nodes[0].ask("CLUSTER", "MEET", ports.LOOPBACK, node.port, node.bus_port)

        async def agreed() -> bool:
            told = [(await node.ask("CLUSTER", "INFO")).decode().split() for node in nodes]
            wanted = {"cluster_state:ok", f"cluster_known_nodes:{len(nodes)}", f"cluster_slots_ok:{SLOTS}"}
            return all(wanted <= set(one) for one in told)

        await eventually(agreed, within_s=SETTLED_WITHIN_S)
        for node, replica in zip(primaries, others, strict=False):
            await replica.ask("CLUSTER", "REPLICATE", await _id(node))

        async def followed() -> bool:
            known = [len(part) for node in nodes for part in await node.ask("CLUSTER", "SLOTS")]
            # First slot, last slot, primary, replica.
            return set(known) == {4} and all([await _follows(replica) for replica in others])

        if replicas:
            await eventually(followed, within_s=SETTLED_WITHIN_S, what="all know each primary's replica")
        yield Parted(primaries, others)
    finally:
        await _end(nodes)


async def _follows(replica: Node) -> bool:
    """Whether a replica has all that its primary has, and hears of more."""
    role = await replica.ask("ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")


def _facts(told: Any) -> dict[str, Any]:
    """Pairs as a mapping, however the client gives them."""
    pairs = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
    return {name.decode() if isinstance(name, bytes) else str(name): value for name, value in pairs}


async def _id(node: Node) -> str:
    return str((await node.ask("CLUSTER", "MYID")).decode())


async def _end(nodes: list[Node]) -> None:
    for node in nodes:
        await node.client.aclose()
        node.kill()
