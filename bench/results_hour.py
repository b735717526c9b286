"""The results hour: what a person costs with handshake, refresh and sign-in, and how many nodes the estimate needs.

A worker of the gateway and the HAProxy that ends TLS before it share one core, and their processor time is counted; what
stands behind them and the load have the other core. `results_estimate` says what is assumed, `visits` how it is measured.

Invariant: what is printed is what was measured, beside what was not counted.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench import country, machine
from bench.figures import interval, ratio_interval, row, shown
from bench.peers import certificate, setups, tools
from bench.peers.people import Issuer
from bench.peers.serving import serving as serving_peers
from bench.phones import Signer, people
from bench.results_estimate import (
    COLD_SHARE,
    EACH,
    EACH_COLD,
    HOUR_S,
    NODE_CORES,
    NODE_WORKERS,
    PEOPLE,
    SIGN_IN_SHARE,
    SPAN_S,
    TITLES,
    UTILISATION,
    Kind,
    cores_interval,
    cpu_s_a_person,
    nodes,
    requests_each,
)
from bench.servers import THE_PRODUCT, serving
from bench.visits import KNOWN, RATES, VISITS, Round, Visits
from sandbox import folder
from sandbox.postgres import ACCOUNTS

# A sandbox has fewer accounts in use than pupils that it is asked for.
SPARE_PUPILS = 60


class Result(msgspec.Struct, frozen=True):
    """A whole run, as it is written to the results folder."""

    where: machine.Machine
    cores: machine.Cores
    terminator: str
    seconds: int
    each: dict[Kind, float]
    rounds: list[Round]


async def run(*, pairs: int, seconds: int) -> Result:
    """Set everything up, measure, take everything down. Raises: Missing, Unexpected, ProcessFailed, OSError."""
    tools.need({"haproxy"})
    cores, here = machine.choose_cores(), machine.this_machine()
    rounds: list[Round] = []
    with machine.pinned(cores.load), country.scratch_folder() as scratch:
        _say("starting a sandbox")
        async with _visits(scratch, cores, rounds=pairs + 1, seconds=seconds) as visits:
            for number in range(pairs + 1):
                _say(f"round {number} of {pairs}")
                measured = await visits.round()
                if number > 0:  # the first round warms up
                    rounds.append(measured)
    told = tools.version([tools.program("haproxy"), "-v"])
    return Result(here, cores, told, seconds, dict(EACH), rounds)


@asynccontextmanager
async def _visits(scratch: Path, cores: machine.Cores, *, rounds: int, seconds: int) -> AsyncIterator[Visits]:
    """The servers and the people, enough of them for so many rounds."""
    unseen = rounds * (round(RATES[Kind.COLD] * seconds) + round(VISITS * COLD_SHARE))
    async with country.running(scratch, pupils=KNOWN + unseen + SPARE_PUPILS) as place:
        table = folder.read_table(place)
        environment = country.gateway_environment(table)
        signer = Signer(Path(environment["MASSAR_ACCESS_KEYS_DIR"]))
        who = await people(table.databases[country.SITE][ACCOUNTS], signer, count=KNOWN + unseen)
        product = country.Ground(environment=environment, token="", path="", body=b"", place=place)
        async with serving(scratch, product, {"massar": THE_PRODUCT}, cores) as servers:
            worker = servers["massar"]
            issuer = Issuer(environment)
            ground = setups.Ground(
                folder=scratch,
                public_pem=issuer.public_pem,
                jwks=issuer.jwks,
                origin_port=0,  # what ends TLS asks the worker alone
                slow_origin_port=0,
                valkey_url="",
                gateway_port=worker.port,
                certificate=certificate.make(scratch / "certificate.pem"),
            )
            async with serving_peers(ground, [setups.MASSAR_H2], cores.server) as peers:
                before = peers[setups.MASSAR_H2]
                yield Visits(before, worker.running, signer, who, seconds=seconds, core=cores.server)


def table(result: Result) -> str:
    """The run as text: where it was made, what each kind took, what that makes of the estimate."""
    where, rounds = result.where, result.rounds
    versions = ", ".join(f"{name} {number}" for name, number in where.versions.items())
    idle, per_s = statistics.median(one.idle for one in rounds), PEOPLE * requests_each() / SPAN_S
    return "\n".join([
        f"results hour: {PEOPLE:,} people, {requests_each():.0f} requests each within {SPAN_S:.0f} s ({per_s:,.0f} requests/s), a connection each",
        f"  {where.processor}, {where.cores} cores, Linux {where.kernel}, load average {where.load_average} before",
        f"  counted: one worker and the HAProxy that ends TLS before it, on core {result.cores.server}",
        f"  not counted: accounts database, etcd, Valkey, datacenter and the load, on core {result.cores.load}",
        f"  Python {where.python}, {versions}",
        f"  {result.terminator}",
        f"  {len(rounds)} rounds; blocks of {result.seconds} s, {VISITS} visits; medians (95 %); less {idle:.2%} of a core that both take with nobody asking",
        "",
        row("", "for a person, at a second", "CPU µs", "of it HAProxy's"),
        *(
            row(
                title,
                f"{result.each[kind]:.2f}, {RATES[kind]:,.0f}/s",
                shown(interval([one.parts[kind].cpu_us for one in rounds]), 0),
                shown(interval([one.parts[kind].terminator_us for one in rounds]), 0),
            )
            for kind, title in TITLES.items()
        ),
        "",
        *_person(rounds),
        "",
        *_needed(rounds),
        "",
        *_sign_ins(rounds),
    ])  # fmt: skip


def _person(rounds: list[Round]) -> list[str]:
    rate = statistics.median(one.visits_per_s for one in rounds)
    busy = statistics.median(one.busy for one in rounds)
    visits, summed = [one.visit_s for one in rounds], [one.summed_s for one in rounds]
    return [
        row("CPU ms a person", "sum of the parts", "whole visits", "visits / sum"),
        row(
            f"{rate:,.1f} visits/s, core {busy:.0%} busy",
            shown(interval([1e3 * each for each in summed]), 2),
            shown(interval([1e3 * each for each in visits]), 2),
            shown(ratio_interval(visits, summed), 2),
        ),
    ]


def _needed(rounds: list[Round]) -> list[str]:
    idle = [one.idle for one in rounds]
    lines = [
        row(
            f"needed with cores {UTILISATION:.0%} busy",
            "cores",
            f"nodes of {NODE_WORKERS} workers",
            f"nodes of {NODE_CORES} cores",
        )
    ]
    for name, cpu_s in (
        ("by the sum of the parts", [one.summed_s for one in rounds]),
        ("by whole visits", [one.visit_s for one in rounds]),
        ("by the sum, every first read cold", [cpu_s_a_person(one.cpu_us, EACH_COLD) for one in rounds]),
    ):
        of = cores_interval(cpu_s, idle)
        lines.append(row(name, shown(of, 1), nodes(of, NODE_WORKERS), nodes(of, NODE_CORES)))
    return lines


def _sign_ins(rounds: list[Round]) -> list[str]:
    """The choke apart."""
    idle = [one.idle for one in rounds]
    argon2id, whole = [one.argon2id_s for one in rounds], [one.cpu_us[Kind.SIGN_IN] / 1e6 for one in rounds]
    lines = [
        f"  sign-ins alone; one argon2id computation takes {shown(interval([1e3 * each for each in argon2id]), 1)} ms",
        row("cores", "argon2id alone", "the whole sign-in"),
    ]
    for name, share, span_s in (
        (f"{SIGN_IN_SHARE:.0%} of the people within {SPAN_S:.0f} s (assumed)", SIGN_IN_SHARE, SPAN_S),
        (f"all of them within {HOUR_S:.0f} s", 1.0, HOUR_S),
        (f"all of them within {SPAN_S:.0f} s", 1.0, SPAN_S),
    ):
        lines.append(
            row(
                name,
                *(
                    shown(cores_interval(cpu_s, idle, share=share, span_s=span_s), 1)
                    for cpu_s in (argon2id, whole)
                ),
            )
        )
    return lines


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
