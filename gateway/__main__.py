"""`python -m gateway` is the `massar` command."""

import sys

# structlog and httpx load these, where they are installed, for a developer's console. Our logs are JSON, and they take 5 MB
# of every worker; Litestar's own commands, which need them, are not used here.
sys.modules["rich"] = sys.modules["pygments"] = None  # type: ignore[assignment]  # None is how importing is refused

from gateway.cli import run  # noqa: E402 - after that

run()
