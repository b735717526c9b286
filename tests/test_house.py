"""The house's own rules, held by reading the code: where things stand, how big and how they are named.

A rule that needs an exception names it here, with its reason.
"""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from gateway.directing_settings import DirectorSettings
from gateway.settings import Settings, variable
from routes.problems import PROBLEMS

ROOT = Path(__file__).parent.parent
PACKAGES = ("auth", "cache", "datacenters", "gateway", "routes", "sandbox")
SHIPPED = ("auth", "cache", "datacenters", "gateway", "routes")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Modules without a test file of their own, and what holds them instead.
UNMIRRORED = {
    "auth/migrations/env.py": "run by every migration in tests/auth/test_migrations.py",
    "auth/migrations/versions/r0001_accounts.py": "run by every migration in tests/auth/test_migrations.py",
    "sandbox/demo.py": "is a test itself: `make demo` fails when a step does",
    "sandbox/load.py": "is the demo's own load",
}
# Where the environment is read; everything below gets what it needs as an argument.
ENTRY_POINTS = {
    "cache/__main__.py",
    "datacenters/reach.py",
    "gateway/asgi.py",
    "gateway/cli.py",
    "sandbox/cli.py",
    "sandbox/datacenter/asgi.py",
}
BANNED_ANYWHERE = {"utils", "util", "helpers", "helper", "manager", "common", "info"}
BANNED_OF_MODULES_AND_CLASSES = BANNED_ANYWHERE | {"service", "data"}
# Test files that may pass tests over, and why no machine can be asked to run those everywhere.
MAY_SKIP = {
    "tests/sandbox/test_seats.py": "network namespaces are root's to make, and a developer's machine has no root",
}
# Fields of others that begin with `X-`.
STANDARD_ALL_THE_SAME = {"x-content-type-options"}  # WHATWG Fetch
# Slugs of errors that are answered inside before any caller could see them.
NEVER_ESCAPE = {
    "assertion-invalid": "a datacenter refuses a gateway with it",
    "etcd-unavailable": "whoever asks etcd says what it means for the caller",
    "etcd-refused": "whoever asks etcd says what it means for the caller",
    "etcd-compacted": "the feed lists again",
    "notice-refused": "the private listener answers 401",
}
# Exceptions without a slug: they stop a start or a command, or end inside their own package.
WITHOUT_SLUG = {
    "cache.entries.EntryBroken": "a miss",
    "cache.sealing.SealBroken": "a miss",
    "cache.bounded_valkey.CacheUnavailable": "a miss",
    "cache.connection.Busy": "a miss",
    "cache.connection.ConnectionLost": "a miss",
    "cache.connection.LoginRefused": "a miss",
    "cache.leases.TurnFailed": "carries the slug of another worker's error",
    "cache.http.client.ClientGone": "nobody is left to hear it",
    "cache.http.client.ClientSlow": "the driver answers 408",
    "cache.http.fetching._Stale": "tried once more",
    "cache.http.fetching.Unanswered": "the driver answers 502 or 504",
    "cache.http.shelf.Away": "the driver asks the origin",
    "cache.http.filling.Broken": "has the server break the client off",
    "datacenters.attempts.Failed": "the forwarder says what it means",
    "datacenters.attempts.StaleEpoch": "the forwarder reads the record again",
    "datacenters.feeds._Behind": "the feed lists again",
    "datacenters.hook.HookFailed": "the director runs the hook again",
    "datacenters.forwarding._KeptBack": "the forwarder reads the record again",
    "datacenters.forwarding._NotShown": "the forwarder says PositionNotReached",
    "datacenters.lane.Full": "the forwarder says Overloaded",
    "datacenters.promotion.PromotionFailed": "the director tries again",
    "datacenters.replay.Mismatch": "the record is parked",
    "datacenters.replay.ReplayFailed": "the director tries again",
    "datacenters.taking_over.NotYet": "the director tries again",
    "datacenters.transport.AnswerTooLarge": "who asked says what it means",
    "gateway.settings.SettingsError": "stops the start",
    "gateway.warm_reads._Cold": "the edge asks further",
}


def modules(*packages: str) -> list[Path]:
    """Every module below the given folders, without what tools leave behind."""
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


OURS = modules(*PACKAGES)
ALL = modules(*PACKAGES, "bench", "tests")


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


# Where things stand


def test_every_module_has_its_test_file() -> None:
    expected = {
        name_of(path): ROOT / "tests" / path.parent.relative_to(ROOT) / f"test_{path.stem}.py"
        for path in OURS
        if not path.stem.startswith("__")
    }
    missing = {name for name, test in expected.items() if not test.exists()}
    assert missing == set(UNMIRRORED)


def test_every_test_file_of_a_package_has_its_module() -> None:
    for path in modules(*(f"tests/{package}" for package in PACKAGES)):
        if not path.name.startswith("test_"):
            continue
        module = ROOT / path.parent.relative_to(ROOT / "tests") / path.stem.removeprefix("test_")
        assert module.with_suffix(".py").exists() or module.is_dir(), name_of(path)


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        path.parent.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")
    }
    assert sorted(listed) == sorted(".".join(folder.parts) for folder in there)


def test_both_levels_of_tests_are_packages() -> None:
    for path in modules("tests"):
        assert (path.parent / "__init__.py").exists(), name_of(path)


# Sizes


@each([*OURS, *modules("bench")])
def test_a_module_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MODULE_LINES_MAX


@each(ALL)
def test_a_function_fits_a_screen(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name


# Names


def words(name: str) -> set[str]:
    """The words of a name, in either spelling."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def defined(tree: ast.Module) -> Iterator[str]:
    """Every name that a module gives to anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


@each([path for path in ALL if not path.name.startswith("test_")])
def test_modules_and_classes_say_what_they_are(path: Path) -> None:
    for part in path.relative_to(ROOT).with_suffix("").parts:
        assert not words(part) & BANNED_OF_MODULES_AND_CLASSES
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            assert not words(node.name) & BANNED_OF_MODULES_AND_CLASSES, node.name


@each([*OURS, *modules("bench")])
def test_names_say_what_they_name(path: Path) -> None:
    for name in defined(tree_of(path)):
        assert not words(name) & BANNED_ANYWHERE, name


def test_words_are_found_in_either_spelling() -> None:
    assert words("HTTPDataManager") == {"http", "data", "manager"}
    assert words("_read_common_info2") == {"read", "common", "info"}
    assert not words("Datacenter") & BANNED_OF_MODULES_AND_CLASSES


# Reach


@each(OURS)
def test_only_entry_points_read_the_environment(path: Path) -> None:
    reads = [
        node
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and any("env" in a.name for a in node.names)
        )
    ]
    assert bool(reads) == (name_of(path) in ENTRY_POINTS)


@each(OURS)
def test_no_header_of_ours_begins_with_x(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            ours = re.fullmatch(r"x-[a-z-]+", text, flags=re.IGNORECASE)
            assert ours is None or text in STANDARD_ALL_THE_SAME, text


# Habits


@each([path for path in ALL if path.read_text("utf-8").strip()])
def test_annotations_are_never_evaluated_by_accident(path: Path) -> None:
    imports = [node for node in tree_of(path).body if isinstance(node, ast.ImportFrom)]
    assert any(node.module == "__future__" for node in imports) or name_of(path).endswith("__main__.py")


@each([path for path in OURS if path.read_text("utf-8").strip()])
def test_a_module_says_why_it_exists(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


@each(ALL)
def test_what_the_type_checker_overlooks_has_a_code_and_a_reason(path: Path) -> None:
    ignore = "type: " + "ignore"
    for line in path.read_text("utf-8").splitlines():
        if ignore in line:
            assert re.search(ignore + r"\[[a-z-]+(, ?[a-z-]+)*\]  # \w+", line), line


def sleeps(node: ast.AST, *, paced: bool = False) -> Iterator[int]:
    """The lines that wait for a guessed time: not those that let others run, nor the pace of a loop."""
    paced = paced or isinstance(node, ast.While)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
        lets_others_run = isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if not paced and not lets_others_run:
            yield node.lineno
    for child in ast.iter_child_nodes(node):
        yield from sleeps(child, paced=paced)


@each(modules("tests"))
def test_tests_neither_sleep_nor_skip(path: Path) -> None:
    assert list(sleeps(tree_of(path))) == []
    if name_of(path) in MAY_SKIP:
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"skip", "skipif", "importorskip", "xfail"}, node.lineno


# Errors and documents


@cache
def exceptions() -> dict[str, type[BaseException]]:
    """Every exception class of the shipped packages by its full name."""
    found: dict[str, type[BaseException]] = {}
    for path in modules(*SHIPPED):
        if path.stem.startswith("__") or "migrations" in path.parts:
            continue
        module: ModuleType = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for thing in vars(module).values():
            if (
                isinstance(thing, type)
                and issubclass(thing, BaseException)
                and thing.__module__ == module.__name__
            ):
                found[f"{module.__name__}.{thing.__qualname__}"] = thing
    return found


def test_every_error_is_in_the_table_or_says_why_it_never_gets_there() -> None:
    slugs = {name: getattr(kind, "slug", None) for name, kind in exceptions().items()}
    bases = {"auth.refusals.Refusal"}
    assert {name for name, slug in slugs.items() if slug is None} == set(WITHOUT_SLUG) | bases
    used = {slug for slug in slugs.values() if slug is not None}
    assert used - set(PROBLEMS) == set(NEVER_ESCAPE)


def test_every_slug_has_a_heading_in_the_documents() -> None:
    text = (ROOT / "docs" / "problems.md").read_text("utf-8")
    assert set(PROBLEMS) <= set(re.findall(r"^## (\S+)$", text, flags=re.MULTILINE))


def test_every_setting_has_its_row_and_its_line_in_the_example() -> None:
    rows = (ROOT / "docs" / "settings.md").read_text("utf-8")
    example = (ROOT / ".env.example").read_text("utf-8")
    fields = (*msgspec.structs.fields(Settings), *msgspec.structs.fields(DirectorSettings))
    names = {variable(field.name) for field in fields}
    assert set(re.findall(r"^\| `(MASSAR_\w+)`", rows, flags=re.MULTILINE)) == names
    assert set(re.findall(r"^#? ?(MASSAR_\w+)=", example, flags=re.MULTILINE)) == names
