"""The first comparison: a warm, authenticated 1.4 KB read answered by the edge, and by Litestar without it.

Invariant: every variant is one worker on one core with the same options; before anything is measured they have given
the same bytes, the first from the edge; blocks alternate, so that a slower minute of the machine slows all of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import httpx
import msgspec

from bench import country, machine, variants
from bench.client import Unexpected
from bench.figures import Figure, figure, ratio, row, shown
from bench.load import Asked, generator, load
from bench.servers import THE_PRODUCT, Server, serving
from gateway.private import workers_registry
from routes.timetables import TIMETABLE
from sandbox import ports, processes

BODY_BYTES = range(1200, 1600)
READY_WITHIN_S = 60.0
CLIENT_WAIT_S = 5.0
RATE_UNBOUNDED = "1000000"
EDGE, LITESTAR, FLOOR = "edge", "litestar", "floor"
HIT = "massar; hit; detail=memory"
WARMING_READS = 5
# What a read needs is looked at again in tier 2 every few seconds; reads that meet such an instant go through the
# router, all others must not.
ROUTED_SHARE_MAX = 0.05
NAMES = {
    EDGE: "A  the gateway: answered by the edge",
    LITESTAR: "B  without the edge: Litestar, same cache",
    FLOOR: "C  floor: bare server, nothing checked",
}
_COMMANDS = {
    EDGE: THE_PRODUCT,
    LITESTAR: ("-m", "bench.variants", variants.without_edge.__name__),
    FLOOR: ("-m", "bench.variants", variants.floor.__name__),
}


class Block(msgspec.Struct, frozen=True):
    """What one variant did in one block."""

    cpu_us_per_request: float
    requests_per_s: float
    requests: int
    routed: int


class Result(msgspec.Struct, frozen=True):
    """A whole run, as it is written to the results folder."""

    where: machine.Machine
    cores: machine.Cores
    sender: str
    connections: int
    seconds: int
    body_bytes: int
    blocks: dict[str, list[Block]]
    cpu_us: dict[str, Figure]
    requests_per_s: dict[str, Figure]
    cpu_ratio: Figure
    throughput_ratio: Figure
    routed_share: float


async def run(*, pairs: int, seconds: int, connections: int) -> Result:
    """Set everything up, measure, take everything down."""
    cores = machine.choose_cores()
    here = machine.this_machine()
    with machine.pinned(cores.load), tempfile.TemporaryDirectory(prefix="massar-bench-") as scratch:
        folder = Path(scratch)
        _say("starting a sandbox")
        async with country.country(folder) as ground, serving(folder, ground, _COMMANDS, cores) as servers:
            await _agree(servers, ground)
            sender = generator()
            _say(f"measuring {pairs} rounds of {len(servers)} blocks of {seconds} s, load by {sender}")
            blocks: dict[str, list[Block]] = {name: [] for name in servers}
            for number in range(pairs + 1):
                for name, server in servers.items():
                    expected = variants.floor_body(len(ground.body)) if name == FLOOR else ground.body
                    asked = Asked(ground.path, token=ground.token, expected=expected)
                    block = await _block(server, sender, asked, connections=connections, seconds=seconds)
                    if number > 0:  # the first round warms up
                        blocks[name].append(block)
    routed_share = sum(block.routed for block in blocks[EDGE]) / sum(block.requests for block in blocks[EDGE])
    if routed_share > ROUTED_SHARE_MAX:
        raise Unexpected(f"{routed_share:.1%} of the reads were not answered by the edge")
    cpu = {name: [block.cpu_us_per_request for block in many] for name, many in blocks.items()}
    rate = {name: [block.requests_per_s for block in many] for name, many in blocks.items()}
    return Result(
        where=here,
        cores=cores,
        sender=Path(sender).name,
        connections=connections,
        seconds=seconds,
        body_bytes=len(ground.body),
        blocks=blocks,
        cpu_us={name: figure(samples) for name, samples in cpu.items()},
        requests_per_s={name: figure(samples) for name, samples in rate.items()},
        cpu_ratio=ratio(cpu[LITESTAR], cpu[EDGE]),
        throughput_ratio=ratio(rate[EDGE], rate[LITESTAR]),
        routed_share=routed_share,
    )


def table(result: Result) -> str:
    """The run as text: where it was made, medians with their quartiles, the ratios."""
    where = result.where
    versions = ", ".join(f"{name} {number}" for name, number in where.versions.items())
    cores = f"server on core {result.cores.server}; load and the idle sandbox on core {result.cores.load}"
    if result.cores.server == result.cores.load:
        cores += " (one core for both: the throughput is theirs together)"
    how = f"{result.connections} connections, {len(result.blocks[EDGE])} rounds of {result.seconds} s blocks"
    return "\n".join([
        f"warm authenticated read of {result.body_bytes} bytes, GET /v1/pupils/{{pupil_id}}/timetable, one worker",
        f"  {where.processor}, {where.cores} cores, Linux {where.kernel}, load average {where.load_average} before",
        f"  {cores}",
        f"  Python {where.python}, {versions}",
        f"  load by {result.sender}, {how}; median (quartiles)",
        "",
        row("", "CPU µs per request", "requests per second"),
        *(
            row(name, shown(result.cpu_us[key], 1), shown(result.requests_per_s[key], 0))
            for key, name in NAMES.items()
        ),
        f"  of A's reads {1 - result.routed_share:.3%} were answered by the edge, the rest looked again in tier 2",
        "",
        f"ratio  CPU per request B / A: {shown(result.cpu_ratio, 2)}",
        f"ratio  throughput      A / B: {shown(result.throughput_ratio, 2)}",
    ])  # fmt: skip


async def _agree(servers: dict[str, Server], ground: country.Ground) -> None:
    """Make sure that what is compared is the same: the same bytes, warm, and answered where each variant says."""
    if len(ground.body) not in BODY_BYTES:
        raise Unexpected(f"the body has {len(ground.body)} bytes, not about 1.4 KB")
    async with httpx.AsyncClient(timeout=CLIENT_WAIT_S, trust_env=False) as client:
        for name in (EDGE, LITESTAR):
            url = f"http://{ports.LOOPBACK}:{servers[name].port}{ground.path}"
            headers = {"authorization": f"Bearer {ground.token}"}
            for _ in range(WARMING_READS):
                await client.get(url, headers=headers)
            before = routed(servers[name])
            answer = await client.get(url, headers=headers)
            if answer.status_code != httpx.codes.OK or answer.content != ground.body:
                raise Unexpected(
                    f"{name}: {answer.status_code}, other bytes than the sandbox's gateway gives"
                )
            if answer.headers["cache-status"] != HIT:
                raise Unexpected(f"{name}: Cache-Status is {answer.headers['cache-status']!r}")
            if routed(servers[name]) - before != (1 if name == LITESTAR else 0):
                raise Unexpected(f"{name}: not answered where it should be")


def routed(server: Server) -> int:
    """How many of the measured reads went through Litestar's router, by the gateway's own metrics."""
    registry = workers_registry(str(server.metrics))
    return int(registry.get_sample_value("massar_request_seconds_count", {"route": TIMETABLE.path}) or 0)


async def _block(server: Server, sender: str, asked: Asked, *, connections: int, seconds: int) -> Block:
    """Load one variant for a while and see what it used."""
    through, used_s = routed(server), machine.cpu_s(server.running.who)
    done = await load(sender, server.port, asked, connections=connections, seconds=seconds)
    used_s = machine.cpu_s(server.running.who) - used_s
    processes.bound_log(server.running.log)
    return Block(
        cpu_us_per_request=used_s * 1e6 / done.requests,
        requests_per_s=done.requests / done.seconds,
        requests=done.requests,
        routed=routed(server) - through,
    )


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
