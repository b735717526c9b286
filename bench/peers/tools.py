"""The programs of a comparison that this project does not bring: found where the machine has them, named where not.

Invariant: a run starts with all of them or with none; nothing is left out silently.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

DEBIAN_PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client"}
_ADMINISTRATORS_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
_VERSION_WAIT_S = 10.0


class Missing(Exception):
    """Programs are not on this machine; the message names the packages that bring them."""


def program(name: str) -> str:
    """The path of one of `DEBIAN_PACKAGES`. Raises: Missing."""
    found = shutil.which(name) or shutil.which(name, path=_ADMINISTRATORS_FOLDERS)
    if found is None:
        raise Missing(
            f"{name} is not here; Debian: apt-get install --no-install-recommends {DEBIAN_PACKAGES[name]}"
        )
    return found


def envoy() -> str:
    """The path of Envoy in its wheel. Raises: Missing."""
    where = importlib.util.find_spec("envoy")
    folders = where.submodule_search_locations if where is not None else None
    found = Path(folders[0]) / "_bin" / "envoy" if folders else None
    if found is None or not found.is_file():
        raise Missing("Envoy is not here; `make bench` installs it from requirements-bench.lock")
    return str(found)


def need(names: Iterable[str], modules: Sequence[str] = ()) -> None:
    """Raises: Missing, with every package that is missing."""
    debian = {DEBIAN_PACKAGES[name] for name in names if not _here(name)}
    wheels = [name for name in modules if importlib.util.find_spec(name) is None]
    told = []
    if debian:
        told.append(f"apt-get install --no-install-recommends {' '.join(sorted(debian))}")
    if wheels:
        told.append(f"requirements-bench.lock, which `make bench` installs ({', '.join(wheels)})")
    if told:
        raise Missing(f"this comparison needs {' and '.join(told)}")


def version(command: Sequence[str]) -> str:
    """The first line of what a program says of its version."""
    done = subprocess.run(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_VERSION_WAIT_S, check=False
    )
    return done.stdout.decode("utf-8", "replace").strip().partition("\n")[0].strip()


def python(module: str, *arguments: str) -> list[str]:
    """A module of this project as a command."""
    return [sys.executable, "-m", module, *arguments]


def _here(name: str) -> bool:
    try:
        program(name)
    except Missing:
        return False
    return True
