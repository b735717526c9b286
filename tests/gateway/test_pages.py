"""The pages made from the code."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from gateway.directing_settings import DirectorSettings
from gateway.pages import pages, problems_page, settings_page
from gateway.settings import Settings, variable
from routes.problems import LANGUAGES, PROBLEMS

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_pages_on_disk_are_these(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == pages()[name], "run `make openapi`"


def test_every_setting_has_its_row_with_default_and_meaning() -> None:
    rows = re.findall(r"^\| `(MASSAR_\w+)` \| (.+?) \| (.+) \|$", settings_page(), flags=re.MULTILINE)
    fields = (*msgspec.structs.fields(Settings), *msgspec.structs.fields(DirectorSettings))
    assert [name for name, _, _ in rows] == [variable(field.name) for field in fields]
    for (_, default, meaning), field in zip(rows, fields, strict=True):
        assert (default == "required") == field.required
        assert meaning.endswith(".")


def test_every_slug_has_its_heading_status_and_three_titles() -> None:
    page = problems_page()
    assert re.findall(r"^## (.+)$", page, flags=re.MULTILINE) == list(PROBLEMS)
    for slug, problem in PROBLEMS.items():
        section = page.partition(f"## {slug}\n")[2].partition("\n## ")[0]
        assert f"Status {problem.status}." in section
        for language in LANGUAGES:
            assert problem.title(language) in section
