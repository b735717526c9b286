"""`python -m gateway` is the `massar` command."""

from gateway.cli import main

main()
