"""The pages point at things that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")
NAMED_LINK = re.compile(r"\[`([A-Za-z_.]+)`\]\(([^)#\s]+\.py)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    missing = [
        target for target in LINK.findall(page.read_text("utf-8")) if not (page.parent / target).exists()
    ]
    assert not missing


def test_the_tour_names_what_its_links_define() -> None:
    tour = ROOT / "docs" / "tour.md"
    wrong = []
    for name, target in NAMED_LINK.findall(tour.read_text("utf-8")):
        if name.endswith(".py"):
            continue
        text = (tour.parent / target).read_text("utf-8")
        last = name.split(".")[-1]
        if not re.search(rf"\b(def|class) {last}\b|^{last}\b", text, re.MULTILINE):
            wrong.append((name, target))
    assert not wrong


def test_the_readme_shows_a_real_demo() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "demo: ok" in readme
    assert "DEMO_OUTPUT" not in readme
