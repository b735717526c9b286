"""`python -m bench`: every comparison there is, printed and written to bench/results/.

Invariant: what is printed is what was measured, whatever it is; nothing here judges a number.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec
import uvloop

from bench import warm_read
from bench.client import Unexpected
from sandbox.processes import ProcessFailed

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--pairs", type=click.IntRange(2, 40), default=12, show_default=True, help="Rounds of A B C.")
@click.option(
    "--seconds", type=click.IntRange(1, 4), default=2, show_default=True, help="Length of one block."
)
@click.option("--connections", type=click.IntRange(1, 256), default=64, show_default=True)
def main(pairs: int, seconds: int, connections: int) -> None:
    """Compare what this project claims to be fast with the same thing done the plain way."""
    try:
        result = uvloop.run(warm_read.run(pairs=pairs, seconds=seconds, connections=connections))
    except (Unexpected, ProcessFailed) as reason:
        raise click.ClickException(str(reason)) from None
    print(warm_read.table(result))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y-%m-%dT%H%M%SZ.json", time.gmtime())
    path.write_bytes(msgspec.json.format(msgspec.json.encode({"warm_read": result}), indent=1))
    print(f"\nwritten to {path.relative_to(RESULTS.parents[1])}")


if __name__ == "__main__":
    main()
