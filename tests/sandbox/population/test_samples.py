from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population import Country
from sandbox.population.accounts import PARENT, STUDENT, TEACHER
from sandbox.population.calendar import CALENDAR
from tests.sandbox.population.conftest import Tables, tables_of

PARTS = {
    "student": STUDENT,
    "classmate": STUDENT,
    "stranger_student": STUDENT,
    "parent": PARENT,
    "other_parent": PARENT,
    "revoked_parent": PARENT,
    "teacher": TEACHER,
}


def assert_consistent(samples: dict[str, dict[str, Any]], tables: Tables) -> None:
    assert set(samples) == set(PARTS)
    accounts = {(row["app"], row["login"]): row for row in tables["accounts"]}
    for part, credential in PARTS.items():
        sample = samples[part]
        account = accounts[sample["app"], sample["login"]]
        assert account["subject"] == sample["id"]
        assert account["role"] == credential.role
        assert account["password_hash"] == credential.password_hash
        assert sample["password"] == credential.password
    assert_pupils(samples, tables)
    assert_guardians(samples, tables)
    assert_teacher(samples["teacher"], samples["student"], tables)


def assert_pupils(samples: dict[str, dict[str, Any]], tables: Tables) -> None:
    class_of = {row["id"]: row["class_id"] for row in tables["pupils"]}
    school_of = {row["id"]: row["school"] for row in tables["classes"]}
    student, classmate, stranger = (samples[p] for p in ("student", "classmate", "stranger_student"))
    for pupil in (student, classmate, stranger):
        assert pupil["pupil_id"] == pupil["id"]
        assert pupil["class_id"] == class_of[pupil["id"]]
    assert classmate["class_id"] == student["class_id"]
    assert classmate["id"] not in {student["id"], *samples["parent"]["children"]}
    assert school_of[stranger["class_id"]] != school_of[student["class_id"]]
    assert stranger["id"] not in samples["parent"]["children"]


def assert_guardians(samples: dict[str, dict[str, Any]], tables: Tables) -> None:
    def linked(guardian: str, status: str) -> set[str]:
        rows = tables["guardianships"]
        return {r["pupil"] for r in rows if r["guardian"] == guardian and r["status"] == status}

    for part in ("parent", "other_parent", "revoked_parent"):
        assert set(samples[part]["children"]) == linked(samples[part]["id"], "active")
    assert samples["parent"]["children"][0] == samples["student"]["id"]
    assert samples["other_parent"]["children"][0] == samples["student"]["id"]
    assert samples["parent"]["id"] != samples["other_parent"]["id"]
    assert len(samples["parent"]["children"]) >= 2
    assert {samples["revoked_parent"]["revoked"]} == linked(samples["revoked_parent"]["id"], "revoked")


def assert_teacher(teacher: dict[str, Any], student: dict[str, Any], tables: Tables) -> None:
    assert teacher["class_id"] == student["class_id"]
    assert teacher["session"] == CALENDAR.session
    taught = [row for row in tables["assignments"] if row["teacher"] == teacher["id"]]
    assert (teacher["class_id"], teacher["subject"]) in {(row["class_id"], row["subject"]) for row in taught}
    assert len({row["class_id"] for row in taught}) >= 2
    key = (teacher["class_id"], teacher["subject"], teacher["session"])
    (book,) = (
        row for row in tables["gradebooks"] if (row["class_id"], row["subject"], row["session"]) == key
    )
    assert (book["locked"], book["published"]) == (False, True)


def test_samples_are_people_of_the_country(country: Country, tables: Tables) -> None:
    assert_consistent(country.samples(), tables)


def test_in_a_larger_country_the_stranger_lives_in_another_province(country: Country, tables: Tables) -> None:
    province_of = {row["gresa"]: row["province"] for row in tables["schools"]}
    school_of = {row["id"]: row["school"] for row in tables["classes"]}
    samples: dict[str, dict[str, Any]] = country.samples()
    provinces = {
        province_of[school_of[samples[part]["class_id"]]] for part in ("student", "stranger_student")
    }
    assert len(provinces) == 2


@settings(max_examples=12)
@given(seed=st.integers(), pupils=st.integers(200, 450))
def test_samples_of_any_small_country_are_consistent(seed: int, pupils: int) -> None:
    country = Country.generate(seed, pupils)
    assert_consistent(country.samples(), tables_of(country))
