from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population.curriculum import Cycle
from sandbox.population.families import CHILDREN_MAX, Families, settle
from sandbox.population.schools import Locality, lay_out
from tests.sandbox.population.conftest import Tables

BORN_APART_DAYS_MIN = 270


def settled(seed: int, pupils: int) -> tuple[Locality, Families]:
    (locality,) = lay_out(seed, pupils)
    return locality, settle(locality)


@settings(max_examples=25)
@given(seed=st.integers(), pupils=st.integers(200, 700))
def test_every_seat_is_filled_once_and_numbered_by_name(seed: int, pupils: int) -> None:
    locality, families = settled(seed, pupils)
    lists = families.by_class()
    assert [len(lists[room.position]) for room in locality.classes] == [
        room.size for room in locality.classes
    ]
    assert [pupil.rank for pupil in families.pupils] == list(range(pupils))
    for members in lists.values():
        assert [pupil.number for pupil in members] == list(range(1, len(members) + 1))
        assert [pupil.name.fr for pupil in members] == sorted(pupil.name.fr for pupil in members)


@settings(max_examples=25)
@given(seed=st.integers(), pupils=st.integers(200, 700))
def test_guardians_have_one_to_four_children_and_every_pupil_a_guardian(seed: int, pupils: int) -> None:
    _, families = settled(seed, pupils)
    assert all(1 <= len(guardian.links) <= CHILDREN_MAX for guardian in families.guardians)
    assert len({guardian.number for guardian in families.guardians}) == len(families.guardians)
    guarded = Counter(link.pupil.rank for guardian in families.guardians for link in guardian.links)
    assert set(guarded) == set(range(pupils))
    assert set(guarded.values()) == {1, 2}


@settings(max_examples=25)
@given(seed=st.integers(), pupils=st.integers(200, 700))
def test_siblings_share_family_name_and_guardians_and_are_born_apart(seed: int, pupils: int) -> None:
    _, families = settled(seed, pupils)
    guardians: dict[int, set[str]] = defaultdict(set)
    for guardian in families.guardians:
        for link in guardian.links:
            guardians[link.pupil.rank].add(guardian.id)
    for guardian in families.guardians:
        siblings = [link.pupil for link in guardian.links]
        assert len({pupil.name.login.partition(".")[2] for pupil in siblings}) == 1
        assert len({pupil.name.ar for pupil in siblings}) == len(siblings)
        assert all(guardians[pupil.rank] == guardians[siblings[0].rank] for pupil in siblings)
        births = sorted(pupil.birth_date for pupil in siblings)
        assert all((later - born).days > BORN_APART_DAYS_MIN for born, later in pairwise(births))


@settings(max_examples=25)
@given(seed=st.integers(), pupils=st.integers(200, 700))
def test_every_country_has_the_sample_family_and_a_revoked_link(seed: int, pupils: int) -> None:
    locality, families = settled(seed, pupils)
    first = families.pupils[0]
    parents = [g for g in families.guardians if any(link.pupil is first for link in g.links)]
    assert first.room is locality.sample_class
    assert [len(parent.links) for parent in parents] == [3, 3]
    assert not any(link.revoked for parent in parents for link in parent.links)
    revoked = [g for g in families.guardians if any(link.revoked for link in g.links)]
    assert revoked
    assert sum(link.revoked for link in revoked[0].links) == 1
    assert len(revoked[0].links) == 3


def test_a_father_shares_the_family_name_and_a_mother_keeps_hers() -> None:
    _, families = settled(8, 1000)
    kept = 0
    for guardian in families.guardians:
        children = guardian.links[0].pupil.name.login.partition(".")[2]
        own = guardian.name.login.partition(".")[2]
        if guardian.links[0].kind == "mother":
            kept += own != children
        else:
            assert own == children
    assert kept > len(families.guardians) / 3


def test_sizes_of_families_and_kinds_of_guardians_are_mixed(tables: Tables) -> None:
    children = Counter(Counter(row["guardian"] for row in tables["guardianships"]).values())
    assert all(children[size] > 10 for size in (1, 2, 3, 4))
    guardians = Counter(Counter(row["pupil"] for row in tables["guardianships"]).values())
    assert guardians[2] > guardians[1] > 0
    assert {row["kind"] for row in tables["guardianships"]} == {"father", "mother", "tutor"}
    assert {row["status"] for row in tables["guardianships"]} == {"active", "revoked"}


def test_siblings_go_to_schools_of_different_cycles() -> None:
    _, families = settled(8, 1000)
    cycles = [{link.pupil.room.level.cycle for link in guardian.links} for guardian in families.guardians]
    assert set(Cycle) in cycles


def test_ages_follow_levels() -> None:
    _, families = settled(8, 1000)
    for pupil in families.pupils:
        age = date(2026, 12, 31).year - pupil.birth_date.year
        assert age - pupil.room.level.rank in {5, 6}


def test_somebody_is_dispensed_from_sport_but_few_are(tables: Tables) -> None:
    assert {row["subject"] for row in tables["dispensations"]} == {"EPS"}
    assert 5 <= len(tables["dispensations"]) <= 100


def test_names_of_pupils_and_guardians_stand_in_both_scripts(tables: Tables) -> None:
    for row in (*tables["pupils"], *tables["guardians"], *tables["teachers"]):
        assert row["name_fr"].isascii()
        assert all("\u0600" <= letter <= "\u06ff" or letter == " " for letter in row["name_ar"])
