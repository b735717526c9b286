"""`python -m bench peers`: the whole comparison, from an empty folder to a table.

Invariant: the measured servers share one core and nothing else runs there; what sends and what stands behind them
shares the other.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bench import country, machine, variants
from bench.client import Unexpected
from bench.figures import Figure, interval, ratio_interval, row, shown
from bench.peers import certificate, mixing, setups, tools
from bench.peers.measuring import Block, Load, Measuring, measure
from bench.peers.people import Asking, Issuer, Pupil, asking
from bench.peers.scenarios import MASSAR, MASSAR_MISS, MASSAR_MIX, MASSAR_VALKEY, SCENARIOS, Scenario, raw
from bench.peers.serving import OF_WHAT_CHANGED, Peer, agree, serving
from bench.servers import THE_PRODUCT
from bench.servers import serving as serving_product
from sandbox import folder, ports, processes, valkey

PUPILS = 1_000
# A server that used less of its core at its peak waited for the load: it could do more.
BUSY_MIN = 0.95
ORIGIN_READY_S = 10.0
# Those of one class are asked for its large timetable instead.
SPARE_PUPILS = 60
USUAL_BYTES, LARGE_BYTES = range(1_300, 1_600), range(56_000, 72_000)
NEEDED_MODULES = ("envoy", "fastapi", "uvicorn", "httptools")


class Compared(msgspec.Struct, frozen=True):
    """One scenario: every block of every lane; our throughput and p99 by each other's, each other's CPU by ours."""

    title: str
    lanes: dict[str, str]
    blocks: dict[str, list[Block]]
    throughput: dict[str, Figure]
    cpu: dict[str, Figure]
    p99: dict[str, Figure]
    aims: dict[str, float]


class Result(msgspec.Struct, frozen=True):
    """A whole run, as it is written to the results folder."""

    where: machine.Machine
    cores: machine.Cores
    peers: dict[str, str]
    how: Measuring
    scenarios: dict[str, Compared]
    failures: dict[str, str]


async def run(names: Sequence[str], *, how: Measuring) -> Result:
    """Set everything up, measure the scenarios named, take everything down; one that fails does not spoil the others.

    Raises: Missing, Unexpected, ProcessFailed.
    """
    tools.need(tools.DEBIAN_PACKAGES, NEEDED_MODULES)
    versions = setups.versions()
    cores, here = machine.choose_cores(), machine.this_machine()
    wanted = [SCENARIOS[name] for name in names]
    compared: dict[str, Compared] = {}
    failures: dict[str, str] = {}
    with machine.pinned(cores.load), tempfile.TemporaryDirectory(prefix="massar-bench-") as scratch:
        async with AsyncExitStack() as stack:
            world = await _world(stack, Path(scratch), wanted, cores)
            for scenario in wanted:
                pupils = world.asking.large if scenario.large else world.asking.usual
                load = Load(
                    scenario,
                    issuer=world.issuer,
                    pupils=pupils,
                    etags=world.etags,
                    scratch=Path(scratch),
                    seconds=how.seconds,
                )
                exactly = msgspec.structs.replace(how, connections=scenario.connections or how.connections)
                try:
                    blocks = await measure(scenario, world.peers, load, exactly)
                except (Unexpected, OSError) as reason:  # a time-out is an OSError
                    failures[scenario.title] = str(reason) or type(reason).__name__
                else:
                    compared[scenario.name] = _compared(scenario, blocks)
    return Result(where=here, cores=cores, peers=versions, how=how, scenarios=compared, failures=failures)


class _World(msgspec.Struct, frozen=True):
    asking: Asking
    issuer: Issuer
    peers: dict[str, Peer]
    etags: dict[str, dict[str, bytes]]


async def _world(
    stack: AsyncExitStack, place: Path, wanted: Sequence[Scenario], cores: machine.Cores
) -> _World:
    """Everything that runs during the comparison, after all servers have been seen to agree."""
    home = await stack.enter_async_context(country.running(place, pupils=PUPILS + SPARE_PUPILS))
    sandbox = folder.read_table(home)
    who = await asking(sandbox, country.SITE, count=PUPILS)
    environment = country.gateway_environment(sandbox)
    issuer = Issuer(environment)
    servers = {lane.server for scenario in wanted for lane in scenario.lanes}
    peers = await _ours(stack, place, environment, servers, cores)
    everyone = [*who.usual, *who.large]
    changing = [mixing.changing(pupil) for pupil in who.usual]
    bodies = await _bodies(peers[MASSAR], issuer, [*everyone, *changing])
    _are_as_long_as_said(who, bodies)
    ground = await _ground(stack, place, issuer, bodies, peers[MASSAR])
    peers |= await stack.enter_async_context(
        serving(ground, [name for name in setups.SETUPS if name in servers], cores.server)
    )
    if setups.MASSAR_H2 in peers:
        peers[setups.MASSAR_H2] = _both(peers[setups.MASSAR_H2], peers[MASSAR])
    etags = await agree(peers, issuer, everyone, bodies)
    mixed = {lane.server for scenario in wanted if scenario.mixed for lane in scenario.lanes}
    await agree({name: peers[name] for name in mixed}, issuer, changing, bodies, OF_WHAT_CHANGED)
    return _World(who, issuer, peers, etags)


async def _ours(
    stack: AsyncExitStack,
    place: Path,
    environment: Mapping[str, str],
    servers: Collection[str],
    cores: machine.Cores,
) -> dict[str, Peer]:
    """The gateway, and the same one with what a scenario needs changed."""
    commands = {
        MASSAR: THE_PRODUCT,
        **({MASSAR_VALKEY: _variant(variants.from_valkey)} if MASSAR_VALKEY in servers else {}),
    }
    started = await _product(stack, place, environment, commands, cores)
    for name, variant, delay_ms in (
        (MASSAR_MISS, variants.never_twice, setups.ORIGIN_DELAY_MS),
        (MASSAR_MIX, variants.one_week_changing, 0),
    ):
        if name not in servers:
            continue
        sites = msgspec.json.decode(environment["MASSAR_SITES"])
        datacenter = urlsplit(sites[country.SITE]["datacenter_url"]).port
        front = await _behind(stack, place, "bench.peers.front", str(datacenter), str(delay_ms))
        sites[country.SITE]["datacenter_url"] = f"http://{ports.LOOPBACK}:{front}"
        fronted = {**environment, "MASSAR_SITES": msgspec.json.encode(sites).decode()}
        started |= await _product(stack, place, fronted, {name: _variant(variant)}, cores)
    return started


async def _product(
    stack: AsyncExitStack,
    place: Path,
    environment: Mapping[str, str],
    commands: Mapping[str, tuple[str, ...]],
    cores: machine.Cores,
) -> dict[str, Peer]:
    ground = country.Ground(environment=dict(environment), token="", path="", body=b"", place=place)
    started = await stack.enter_async_context(serving_product(place, ground, commands, cores))
    return {name: Peer(server.port, [server.running]) for name, server in started.items()}


def _variant(factory: Callable[[], object]) -> tuple[str, ...]:
    return ("-m", "bench.variants", factory.__name__)


def _both(before: Peer, worker: Peer) -> Peer:
    """Who is asked is the one before; what the worker behind uses is counted too."""
    return msgspec.structs.replace(before, running=[*before.running, *worker.running])


async def _bodies(ours: Peer, issuer: Issuer, who: Sequence[Pupil]) -> dict[str, bytes]:
    tokens = list(issuer.tokens(who, len(who)))
    answers = await ours.probe([raw(pupil.path, token) for pupil, token in tokens])
    return {pupil.path: answer.body for (pupil, _), answer in zip(tokens, answers, strict=True)}


def _are_as_long_as_said(who: Asking, bodies: Mapping[str, bytes]) -> None:
    if len(who.usual) != PUPILS:
        raise Unexpected(f"{len(who.usual)} pupils, not {PUPILS}")
    for pupils, expected in ((who.usual, USUAL_BYTES), (who.large, LARGE_BYTES)):
        odd = [len(bodies[pupil.path]) for pupil in pupils if len(bodies[pupil.path]) not in expected]
        if odd or not pupils:
            raise Unexpected(f"bodies of {odd[:3]} bytes, not of {expected.start} to {expected.stop}")


async def _ground(
    stack: AsyncExitStack, place: Path, issuer: Issuer, bodies: Mapping[str, bytes], ours: Peer
) -> setups.Ground:
    """The peers' origins and Valkey, on the load's core."""
    answers = place / "answers.json"
    answers.write_bytes(msgspec.json.encode({path: body.decode() for path, body in bodies.items()}))
    server = await valkey.start(folder=place / "peers-valkey", logs=place)
    stack.push_async_callback(server.process.stop)
    return setups.Ground(
        folder=place,
        public_pem=issuer.public_pem,
        jwks=issuer.jwks,
        origin_port=await _behind(stack, place, "bench.peers.origin", str(answers)),
        slow_origin_port=await _behind(
            stack, place, "bench.peers.origin", str(answers), str(setups.ORIGIN_DELAY_MS)
        ),
        valkey_url=server.url,
        gateway_port=ours.port,
        certificate=certificate.make(place / "certificate.pem"),
    )


async def _behind(stack: AsyncExitStack, place: Path, module: str, *arguments: str) -> int:
    """Start one of the servers that stand behind those that are measured; its port."""
    (port,) = ports.free_ports(1)
    running = processes.spawn(
        tools.python(module, str(port), *arguments),
        name=module,
        log=place / f"{module}-{port}.log",
        environment={**processes.BARE_ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    stack.push_async_callback(running.stop)
    await processes.ready(running, lambda: not ports.is_free(port), within_s=ORIGIN_READY_S)
    return port


def _compared(scenario: Scenario, blocks: dict[str, list[Block]]) -> Compared:
    ours, *others = scenario.lanes

    def ratios(value: Callable[[Block], float], *, inverse: bool = False) -> dict[str, Figure]:
        mine = [value(block) for block in blocks[ours.name]]
        theirs = {lane.name: [value(block) for block in blocks[lane.name]] for lane in others}
        return {
            name: ratio_interval(many, mine) if inverse else ratio_interval(mine, many)
            for name, many in theirs.items()
        }

    return Compared(
        title=scenario.title,
        lanes={lane.name: lane.title for lane in scenario.lanes},
        blocks=blocks,
        throughput=ratios(lambda block: block.requests_per_s),
        cpu=ratios(lambda block: block.cpu_us_per_request, inverse=True),
        p99=ratios(lambda block: block.p99_ms),
        aims={lane.name: lane.aim for lane in others if lane.aim is not None},
    )


def table(result: Result) -> str:
    """The run as text: where it was made, then each scenario."""
    where, how = result.where, result.how
    versions = ", ".join(f"{name} {number}" for name, number in where.versions.items())
    lines = [
        f"{where.processor}, {where.cores} cores, Linux {where.kernel}, load average {where.load_average} before",
        f"server on core {result.cores.server}; load and origin on core {result.cores.load}",
        f"Python {where.python}, {versions}",
        *(f"{name}: {told}" for name, told in result.peers.items()),
        f"{how.rounds} rounds; {how.connections} connections; blocks of {how.seconds} s; medians (95 %)",
    ]
    for compared in result.scenarios.values():
        lines += ["", compared.title, *_rows(compared, how.rate)]
    lines += [f"\n{title}\n  not measured: {reason}" for title, reason in result.failures.items()]
    return "\n".join(lines)


def _rows(compared: Compared, rate: float) -> list[str]:
    lines = [row("", f"CPU µs a request at {rate:,.0f}/s", "peak requests/s", "p99 ms at half the peak")]
    for name, many in compared.blocks.items():
        slower = min(block.offered_per_s for block in many)
        at = f" at {slower:,.0f}/s" if slower < rate else ""
        busy = statistics.median(block.busy for block in many)
        notes = f"   core {busy:.0%} busy at its peak" if busy < BUSY_MIN else ""
        again = sum(block.again for block in many)
        notes += f"   {again} of its blocks begun again" if again else ""
        lines.append(
            row(
                compared.lanes[name],
                shown(interval([block.cpu_us_per_request for block in many]), 1) + at,
                shown(interval([block.requests_per_s for block in many]), 0),
                shown(interval([block.p99_ms for block in many]), 2),
            )
            + notes
        )
    lines.append(row("our ratio to", "CPU (theirs / ours)", "peak (ours / theirs)", "p99 (ours / theirs)"))
    for name, throughput in compared.throughput.items():
        aim = compared.aims.get(name)
        wanted = "" if aim is None else f"   aim {aim:g}: {_judged(throughput, aim)}"
        lines.append(
            row(
                compared.lanes[name],
                shown(compared.cpu[name], 2),
                shown(throughput, 2),
                shown(compared.p99[name], 2),
            )
            + wanted
        )
    return lines


def _judged(throughput: Figure, aim: float) -> str:
    if throughput.low >= aim:
        return "met"
    return "not met" if throughput.high < aim else "within the interval"
