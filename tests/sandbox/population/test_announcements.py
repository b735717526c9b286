from __future__ import annotations

from collections import defaultdict

from sandbox.population.announcements import territory_rows
from sandbox.population.calendar import CALENDAR
from tests.sandbox.population.conftest import Tables


def test_every_scope_of_the_five_levels_has_an_announcement(tables: Tables) -> None:
    scopes: dict[str, set[str]] = defaultdict(set)
    for row in tables["announcements"]:
        scopes[row["level"]].add(row["scope"])
    assert scopes == {
        "national": {""},
        "region": {row["code"] for row in tables["regions"]},
        "province": {row["code"] for row in tables["provinces"]},
        "school": {row["gresa"] for row in tables["schools"]},
        "class": {row["id"] for row in tables["classes"]},
    }


def test_announcements_are_valid_today_and_complete_in_both_languages(tables: Tables) -> None:
    for row in tables["announcements"]:
        assert row["valid_from"] <= CALENDAR.today <= row["valid_to"]
        assert all(row[column] for column in ("title_ar", "title_fr", "body_ar", "body_fr"))
        assert "{" not in row["body_ar"] + row["body_fr"]


def test_a_region_is_named_in_what_is_said_to_it() -> None:
    casablanca = next(row for row in territory_rows(1) if row[1:3] == ("region", "06"))
    assert "Casablanca-Settat" in str(casablanca[6])
    assert "الدار البيضاء" in str(casablanca[5])
