"""Programs that are not there are named with the packages that bring them."""

from __future__ import annotations

import shutil
import sys

import pytest

from bench.peers import tools


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, **_options: None)


def test_a_program_that_is_not_there_is_named_with_its_package(bare_machine: None) -> None:
    with pytest.raises(tools.Missing, match=r"haproxy is not here; Debian: .* haproxy$"):
        tools.program("haproxy")


def test_everything_that_is_missing_is_told_at_once(bare_machine: None) -> None:
    with pytest.raises(
        tools.Missing, match=r"haproxy nginx-light and requirements-bench\.lock.*no_such_module"
    ):
        tools.need(("nginx", "haproxy"), ("no_such_module",))


def test_nothing_is_told_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_options: f"/usr/bin/{name}")
    tools.need(tools.DEBIAN_PACKAGES, ("json",))
    assert tools.program("wrk") == "/usr/bin/wrk"


def test_a_version_is_the_first_line_wherever_it_is_printed() -> None:
    assert (
        tools.version([sys.executable, "-c", "import sys; sys.stderr.write('one 1.2\\nmore')"]) == "one 1.2"
    )
