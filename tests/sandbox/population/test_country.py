from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.datacenter import tables as datacenter_tables
from sandbox.population import Country
from sandbox.population.columns import ACCOUNTS, TABLES
from tests.sandbox.population.conftest import Tables, tables_of

FOREIGN_KEYS = {
    ("provinces", "region"): ("regions", "code"),
    ("schools", "province"): ("provinces", "code"),
    ("level_subjects", "level"): ("levels", "code"),
    ("level_subjects", "subject"): ("subjects", "code"),
    ("teachers", "school"): ("schools", "gresa"),
    ("classes", "school"): ("schools", "gresa"),
    ("classes", "level"): ("levels", "code"),
    ("assignments", "teacher"): ("teachers", "id"),
    ("assignments", "class_id"): ("classes", "id"),
    ("assignments", "subject"): ("subjects", "code"),
    ("pupils", "class_id"): ("classes", "id"),
    ("dispensations", "pupil"): ("pupils", "id"),
    ("dispensations", "subject"): ("subjects", "code"),
    ("guardianships", "guardian"): ("guardians", "id"),
    ("guardianships", "pupil"): ("pupils", "id"),
    ("lessons", "class_id"): ("classes", "id"),
    ("lessons", "subject"): ("subjects", "code"),
    ("lessons", "teacher"): ("teachers", "id"),
    ("lesson_changes", "class_id"): ("classes", "id"),
    ("gradebooks", "class_id"): ("classes", "id"),
    ("gradebooks", "subject"): ("subjects", "code"),
    ("controls", "class_id"): ("classes", "id"),
    ("controls", "subject"): ("subjects", "code"),
    ("marks", "pupil"): ("pupils", "id"),
    ("marks", "class_id"): ("classes", "id"),
    ("marks", "subject"): ("subjects", "code"),
    ("activities", "pupil"): ("pupils", "id"),
    ("activities", "subject"): ("subjects", "code"),
    ("absences", "pupil"): ("pupils", "id"),
    ("absences", "class_id"): ("classes", "id"),
    ("homework", "class_id"): ("classes", "id"),
    ("homework", "subject"): ("subjects", "code"),
    ("homework", "teacher"): ("teachers", "id"),
    ("homework_done", "pupil"): ("pupils", "id"),
    ("homework_done", "homework"): ("homework", "id"),
}
CROSS_KEYS = {
    "marks": ("class_id", "subject", "session", "number"),
    "controls": ("class_id", "subject", "session"),
    "homework": ("class_id", "subject", "teacher"),
}
DIGEST = """
import hashlib
from sandbox.population import Country
from sandbox.population.columns import TABLES
digest = hashlib.sha256()
country = Country.generate(7, 400)
for table in TABLES:
    for row in country.rows(table):
        digest.update(repr(row).encode())
digest.update(repr(country.samples()).encode())
print(digest.hexdigest())
"""


def digest_of(country: Country) -> str:
    digest = hashlib.sha256()
    for table in TABLES:
        for row in country.rows(table):
            digest.update(repr(row).encode())
    digest.update(repr(country.samples()).encode())
    return digest.hexdigest()


def digest_in_another_process(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", DIGEST]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_the_same_seed_gives_the_same_country_in_every_process() -> None:
    here = digest_of(Country.generate(7, 400))
    assert digest_in_another_process("1") == here
    assert digest_in_another_process("4242") == here


def test_another_seed_or_size_gives_another_country() -> None:
    digests = {digest_of(Country.generate(seed, pupils)) for seed, pupils in ((1, 300), (2, 300), (1, 301))}
    assert len(digests) == 3


def test_tables_may_be_asked_for_in_any_order_and_again(country: Country) -> None:
    backwards = {table: list(country.rows(table)) for table in reversed(TABLES)}
    assert all(list(country.rows(table)) == backwards[table] for table in ("marks", "accounts", "homework"))


def primary_key(table: str) -> tuple[str, ...]:
    columns = datacenter_tables.metadata.tables[table].primary_key.columns
    return tuple(column.name for column in columns)


def assert_sound(tables: Tables) -> None:
    for table in TABLES:
        key = ("id",) if table == ACCOUNTS else primary_key(table)
        keys = [tuple(row[column] for column in key) for row in tables[table]]
        assert keys, table
        assert len(keys) == len(set(keys)), table
    for (table, column), (target, target_column) in FOREIGN_KEYS.items():
        known = {row[target_column] for row in tables[target]}
        assert {row[column] for row in tables[table]} <= known, (table, column)
    for column in ("massar_code", "id"):
        assert len({row[column] for row in tables["pupils"]}) == len(tables["pupils"])
    assert len({row["ppr"] for row in tables["teachers"]}) == len(tables["teachers"])
    assert_cross_keys(tables)


def assert_cross_keys(tables: Tables) -> None:
    def values(table: str, columns: tuple[str, ...]) -> set[tuple[Any, ...]]:
        return {tuple(row[column] for column in columns) for row in tables[table]}

    assert values("marks", CROSS_KEYS["marks"]) <= values("controls", CROSS_KEYS["marks"])
    assert values("controls", CROSS_KEYS["controls"]) == values("gradebooks", CROSS_KEYS["controls"])
    assert values("homework", CROSS_KEYS["homework"]) <= values("assignments", CROSS_KEYS["homework"])
    assert values("lessons", CROSS_KEYS["homework"]) == values("assignments", CROSS_KEYS["homework"])
    lessons = ("class_id", "day", "start_at")
    assert values("lesson_changes", lessons) <= values("lessons", lessons)
    class_of = {row["id"]: row["class_id"] for row in tables["pupils"]}
    assert all(row["class_id"] == class_of[row["pupil"]] for row in tables["marks"])
    people = {row["id"] for table in ("pupils", "guardians", "teachers") for row in tables[table]}
    assert {row["subject"] for row in tables["accounts"]} == people


def test_every_reference_resolves_and_every_key_is_unique(tables: Tables) -> None:
    assert_sound(tables)


@settings(max_examples=12)
@given(seed=st.integers(), pupils=st.integers(200, 450))
def test_any_small_country_is_sound(seed: int, pupils: int) -> None:
    tables = tables_of(Country.generate(seed, pupils))
    assert_sound(tables)
    assert len(tables["pupils"]) == pupils


def test_the_whole_territory_is_there_whatever_the_size() -> None:
    small = tables_of(Country.generate(1, 200))
    assert (len(small["regions"]), len(small["provinces"])) == (12, 82)


def test_an_unknown_table_is_refused(country: Country) -> None:
    with pytest.raises(KeyError):
        next(country.rows("outbox"))


def test_memory_does_not_grow_with_the_country() -> None:
    def peak_bytes(pupils: int) -> int:
        tracemalloc.start()
        try:
            for part in Country.generate(1, pupils).parts():
                for _ in part.rows("marks"):
                    pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(5000) < 2 * peak_bytes(1000)
