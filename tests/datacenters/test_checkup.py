"""Every check has its page, and every page its check or its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenters.checkup import RUNBOOKS, Check, mib

ROOT = Path(__file__).parents[2]
SECTIONS = ("**What it means.**", "**What to do.**", "**How to know it is over.**")


@pytest.mark.parametrize("check", list(Check))
def test_every_finding_has_its_runbook(check: Check) -> None:
    text = (ROOT / RUNBOOKS / f"{check}.md").read_text("utf-8")
    assert text.startswith("# ")
    for section in SECTIONS:
        assert section in text


def test_every_runbook_belongs_to_a_finding() -> None:
    assert {path.stem for path in (ROOT / RUNBOOKS).glob("*.md")} == {str(check) for check in Check}


def test_sizes_are_for_people() -> None:
    assert mib(3 * 1024 * 1024 // 2) == "1.5 MiB"
