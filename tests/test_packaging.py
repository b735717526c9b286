"""What ships beside the code stays true to it: the container's recipe and the example of settings."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from gateway.directing_settings import DirectorSettings, read_director_settings
from gateway.settings import Settings, read_settings, variable

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
NOT_SHIPPED = {"sandbox", "tests", "bench"}


def _copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_everything_the_container_copies_exists_and_may_pass() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert _copied()
    for source in _copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source


def test_the_container_holds_neither_sandbox_nor_tests() -> None:
    assert not NOT_SHIPPED & set(_copied())


def test_the_container_runs_as_an_ordinary_user_with_hashed_packages() -> None:
    assert re.search(r"^USER (?!root)", DOCKERFILE, flags=re.MULTILINE)
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert DOCKERFILE.count("\nFROM ") == 2
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_gateway_starts_from_what_the_container_copies_alone(tmp_path: Path) -> None:
    for source in _copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    program = (
        f"import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
        f"sys.path[:] = [{str(tmp_path)!r}] + [p for p in sys.path if {str(ROOT)!r} != p]; "
        "import importlib.util; assert importlib.util.find_spec('sandbox') is None; "
        "import gateway.asgi; assert gateway.asgi.__file__.startswith(sys.path[0]); "
        "sys.argv = ['massar', 'gateway', '--help']; from gateway.cli import main; main()"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(packages)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "Serve one site's gateway" in said.stdout


def test_the_example_of_settings_names_every_setting_and_no_other() -> None:
    lines = [
        line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")
    ]
    given = dict(line.partition("=")[::2] for line in lines)
    fields = msgspec.structs.fields(Settings)
    both = {field.name for field in (*fields, *msgspec.structs.fields(DirectorSettings))}
    assert sorted(given) == sorted(map(variable, both))
    assert read_director_settings(given).ground is not None
    settings = read_settings(given)
    for field in fields:
        if not field.required:
            assert getattr(settings, field.name) == field.default, field.name


def test_the_dependency_locks_carry_hashes_and_no_address() -> None:
    for name, least in (
        ("requirements.lock", 20),
        ("requirements-dev.lock", 20),
        ("requirements-bench.lock", 10),
    ):
        text = (ROOT / name).read_text()
        assert "://" not in text
        pinned = re.findall(r"^[A-Za-z0-9][^ ]*==[^ ]+", text, flags=re.MULTILINE)
        assert text.count("\n    --hash=sha256:") >= len(pinned) > least


def test_make_lists_what_a_developer_does() -> None:
    said = subprocess.run(
        ["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True
    ).stdout
    listed = {line.split()[1] for line in said.splitlines() if line.startswith("  make ")}
    assert {"setup", "demo", "sandbox", "test", "check", "fix", "openapi", "bench", "lock", "help"} <= listed


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line.startswith("make ")]
    assert commands == ["make test", "make check"]
