from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import relations, shapes
from sandbox.datacenter.problems import Refused
from tests.conformance import seed


async def related(connection: AsyncConnection, subject: str) -> shapes.Relations:
    return await relations.read_relations(connection, {"subject": subject})


async def test_whoever_was_never_changed_is_at_generation_one(connection: AsyncConnection) -> None:
    for subject in (seed.PUPIL, seed.MOTHER, seed.TEACHER):
        assert (await related(connection, subject)).generation == relations.FIRST_GENERATION


async def test_a_change_and_its_generation_are_seen_together(connection: AsyncConnection) -> None:
    await connection.execute(
        text(
            "UPDATE guardianships SET status = 'revoked', updated_at = '2026-11-20T08:00:00Z' WHERE guardian = :g AND pupil = :p"
        ),
        {"g": seed.MOTHER, "p": seed.PUPIL},
    )
    after = await related(connection, seed.MOTHER)
    assert (after.generation, set(after.pupils), after.as_of) == (2, {seed.STRANGER}, "2026-11-20T08:00:00Z")


async def test_a_person_known_without_relations_is_found_and_a_stranger_is_not(
    connection: AsyncConnection,
) -> None:
    for subject in (seed.FORMER_GUARDIAN, seed.IDLE_TEACHER):
        found = await related(connection, subject)
        assert (found.pupils, found.classes) == ({}, {})
    for read in (relations.read_relations, relations.read_profile):
        with pytest.raises(Refused, match="not-found"):
            await read(connection, {"subject": seed.NOBODY})


async def test_a_teacher_of_two_subjects_has_the_class_once(connection: AsyncConnection) -> None:
    found = await related(connection, seed.TEACHER)
    assert (found.classes, len(found.pupils)) == ({seed.CLASS: ["AR", "MATH"]}, len(seed.PUPILS))
    profile = await relations.read_profile(connection, {"subject": seed.TEACHER})
    assert [[subject.code for subject in one.subjects] for one in profile.classes] == [["AR", "MATH"]]


async def test_a_profile_names_the_person_himself(connection: AsyncConnection) -> None:
    profile = await relations.read_profile(connection, {"subject": seed.PUPIL})
    assert profile.name == profile.pupils[0].name
    assert [pupil.relation for pupil in profile.pupils] == ["self"]
