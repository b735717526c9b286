"""`make conformance`: the public suite http-cache-tests against `python -m cache`, without and with Valkey.

Prints how many of each kind passed and every id that did not, and compares with the committed result: exit 1 when
a test that passed there fails now. What only a browser or a CDN can be asked is left out.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sandbox import ports, processes, valkey

HERE = Path(__file__).parent
COMMITTED = HERE / "result.json"
SUITE = "http-cache-tests@0.4.5"
KINDS = ("required", "optimal", "check")
RUN_MAX_S = 600
READY_WITHIN_S = 20.0


class Told(msgspec.Struct, frozen=True):
    """One test of the suite."""

    id: str
    kind: str


class Results(msgspec.Struct, frozen=True):
    """What `run.mjs` prints."""

    tests: tuple[Told, ...]
    results: dict[str, Any]

    def failing(self, kind: str) -> list[str]:
        """Ids of this kind that did not pass, sorted."""
        return sorted(
            test.id for test in self.tests if test.kind == kind and self.results.get(test.id) is not True
        )

    def of(self, kind: str) -> int:
        """How many of this kind there are."""
        return sum(test.kind == kind for test in self.tests)


class Score(msgspec.Struct, frozen=True):
    """How many of a kind passed, of how many, and which did not."""

    passed: int
    of: int
    failing: tuple[str, ...]


def scored(results: Results) -> dict[str, Score]:
    """The score of each kind."""
    return {
        kind: Score(
            passed=results.of(kind) - len(failing := results.failing(kind)),
            of=results.of(kind),
            failing=tuple(failing),
        )
        for kind in KINDS
    }


def worse(now: dict[str, Score], before: dict[str, Score]) -> list[str]:
    """Ids that fail now and did not before; what caches are merely asked about (`check`) counts for nothing."""
    return [
        id_
        for kind in KINDS
        if kind != "check"
        for id_ in now[kind].failing
        if id_ not in before[kind].failing
    ]


async def main(words: Sequence[str]) -> int:
    """Run the suite twice. With `--write` the result becomes the committed one."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        print(f"conformance: no {' and no '.join(missing)} on PATH (Debian: nodejs, npm)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="massar-conformance-") as scratch:
        folder = Path(scratch)
        install = ["npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", scratch, SUITE]
        subprocess.run(install, check=True, cwd=scratch)
        scores = {"memory": await _run(folder, ())}
        logs = folder / "logs"
        server = await valkey.start(
            folder=folder / "valkey", logs=logs, override=os.environ.get("MASSAR_VALKEY_BIN")
        )
        try:
            scores["valkey"] = await _run(folder, ("--redis", server.url))
        finally:
            await server.process.stop()
    for where, score in scores.items():
        _print(where, score)
    if "--write" in words:
        COMMITTED.write_bytes(msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")
        return 0
    committed = msgspec.json.decode(COMMITTED.read_bytes(), type=dict[str, dict[str, Score]])
    fallen = {where: worse(score, committed[where]) for where, score in scores.items()}
    for where, ids in fallen.items():
        print(f"{where}: as committed, or better" if not ids else f"{where}: passed before: {', '.join(ids)}")
    return 1 if any(fallen.values()) else 0


async def _run(scratch: Path, options: Sequence[str]) -> dict[str, Score]:
    """The score of a proxy started with these options, in front of the suite's own origin."""
    package = scratch / "node_modules" / "http-cache-tests"
    logs = scratch / "logs"
    logs.mkdir(exist_ok=True)
    origin_port, proxy_port = ports.free_ports(2)
    given = {
        "npm_config_protocol": "http",
        "npm_config_port": str(origin_port),
        "npm_config_pidfile": str(scratch / "pid"),
    }
    origin = processes.spawn(
        [shutil.which("node") or "node", str(package / "server" / "server.mjs")],
        name="origin",
        log=logs / "origin.log",
        environment={**processes.BARE_ENVIRONMENT, **given},
    )
    proxy = processes.spawn(
        [
            sys.executable,
            "-m",
            "cache",
            *("--origin", f"http://{ports.LOOPBACK}:{origin_port}"),
            *("--listen", f"{ports.LOOPBACK}:{proxy_port}"),
            "--store-cookies",  # a test asks for it
            *options,
        ],
        name="proxy",
        log=logs / "proxy.log",
    )
    try:
        await processes.ready(origin, lambda: _answers(origin_port), within_s=READY_WITHIN_S)
        await processes.ready(proxy, lambda: _answers(proxy_port), within_s=READY_WITHIN_S)
        base = f"http://{ports.LOOPBACK}:{proxy_port}"
        client = await asyncio.create_subprocess_exec(
            "node", str(HERE / "run.mjs"), str(package), base, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(RUN_MAX_S):
            told, _ = await client.communicate()
    finally:
        proxy.kill()
        origin.kill()
    # The suite's client prints what puzzles it; what we asked for is the last thing printed.
    return scored(msgspec.json.decode(told[told.rindex(b'{"tests":') :], type=Results))


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(ports.LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


def _print(where: str, scores: dict[str, Score]) -> None:
    print(f"{where}: " + ", ".join(f"{kind} {score.passed} of {score.of}" for kind, score in scores.items()))
    for kind, score in scores.items():
        for id_ in score.failing:
            print(f"  {kind}: {id_}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
