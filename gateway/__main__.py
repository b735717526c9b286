"""`python -m gateway` is the `massar` command."""

from gateway.cli import run

run()
