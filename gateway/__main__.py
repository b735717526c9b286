"""`python -m gateway` is the `massar` command."""

import sys

# structlog loads it, where it is installed, to colour a developer's console. Our logs are JSON, and it takes 4 MB of every
# worker; Litestar's own commands, which need it, are not used here.
sys.modules["rich"] = None  # type: ignore[assignment]  # None is how importing is refused

from gateway.cli import run  # noqa: E402 - after that

run()
