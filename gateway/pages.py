"""The pages of docs/ that are made from the code: settings and problems.

Invariant: a field or slug that is not documented cannot exist, because the page is made from it.
"""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from gateway.directing_settings import DirectorSettings
from gateway.settings import Settings, variable
from routes.problems import PROBLEMS


def pages() -> dict[str, str]:
    """File name below docs/ to text."""
    return {"settings.md": settings_page(), "problems.md": problems_page()}


def settings_page() -> str:
    """One row per setting, the gateway's and the director's."""
    lines = [
        "# Settings",
        "",
        "Read once at the start; a wrong value stops the start and names the variable. Lists are comma-separated.",
        "Made by `make openapi` from `gateway/settings.py` and `gateway/directing_settings.py`.",
    ]
    for title, kind in (("massar gateway", Settings), ("massar director", DirectorSettings)):
        lines += ["", f"## {title}", "", "| variable | default | meaning |", "| --- | --- | --- |"]
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in msgspec.structs.fields(kind):
            meta = next(part for part in hints[field.name].__metadata__ if isinstance(part, msgspec.Meta))
            default = "required" if field.required else _shown(field.default)
            lines.append(f"| `{variable(field.name)}` | {default} | {meta.description} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    if default in ("", (), None):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`"


def problems_page() -> str:
    """One heading per slug."""
    lines = [
        "# Problems",
        "",
        "Every error is `application/problem+json` (RFC 9457) with a stable `slug`; `type` is a base address and the",
        "slug. Titles are constant per slug; `detail` says what to do. Made by `make openapi` from",
        "`routes/problems.py`.",
        "",
    ]
    for slug, problem in PROBLEMS.items():
        lines += [
            f"## {slug}",
            "",
            f"Status {problem.status}.",
            "",
            *[
                f"- {language}: {problem.title(language)} · {problem.detail(language)}"
                for language in ("fr", "ar", "en")
            ],
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"
