from __future__ import annotations

from typing import Any

import msgspec

from sandbox.datacenter.problems import PROBLEMS, Refused, problem_body
from tests.conformance.ground import Contract


def slugs_of(document: dict[str, Any]) -> dict[str, int]:
    """Every slug that the document's responses name, with its status."""
    found: dict[str, int] = {}
    for response in document["components"]["responses"].values():
        for media in response.get("content", {}).values():
            properties = media["schema"]["allOf"][1]["properties"]
            slug = properties["slug"]
            for one in slug.get("enum", [slug.get("const")]):
                found[one] = properties["status"]["const"]
    return found


def test_every_slug_is_in_the_document_with_its_status() -> None:
    ours = {slug: status for slug, (status, _) in PROBLEMS.items() if slug != "method-not-allowed"}
    assert slugs_of(Contract().document) == ours


def test_a_problem_is_a_problem_document() -> None:
    body = msgspec.json.decode(problem_body("not-found"))
    assert body == {
        "type": "urn:massar:problem:not-found",
        "title": "Introuvable",
        "status": 404,
        "slug": "not-found",
    }
    assert msgspec.json.decode(problem_body("bad-request", "why"))["detail"] == "why"


def test_what_passes_by_itself_says_when_to_come_back() -> None:
    assert Refused("read-only").headers == {"Retry-After": "1"}
    assert Refused("not-found").headers == {}
