"""A user is counted once well and once badly in a window, however often he comes."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters.observations import Counts, Users
from datacenters.users_met import USERS_MAX, USERS_WINDOW_S, UsersMet, nobody_listens
from datacenters.verdict import GRAY_USERS_MIN, Observation, Verdict, judge
from tests.datacenters.worlds import primary, seen, standby

GATEWAYS = ("rabat", "marrakech")
WORKERS = 4


class Process:
    """One worker of a gateway: what it counts, as `/internal/outcomes` tells it."""

    def __init__(self, *, users_max: int = USERS_MAX) -> None:
        self.now = 0.0
        self.told: list[tuple[str, bool]] = []
        self.met = UsersMet(self._hear, users_max=users_max, monotonic=lambda: self.now)

    def _hear(self, datacenter: str, well: bool) -> None:
        self.told.append((datacenter, well))

    @property
    def counts(self) -> Counts:
        return Counts(ok=self.told.count(("rabat", True)), failed=self.told.count(("rabat", False)))


def test_a_user_who_fails_a_thousand_times_is_one() -> None:
    at = Process()
    for turn in range(1000):
        at.now = turn * USERS_WINDOW_S / 1000
        at.met.note("rabat", "t", well=False)
    assert at.told == [("rabat", False)]


def test_each_kind_each_datacenter_and_each_window_counts() -> None:
    at = Process()
    for now in (0.0, USERS_WINDOW_S - 0.1, USERS_WINDOW_S):
        at.now = now
        for datacenter in GATEWAYS:
            for well in (True, False):
                at.met.note(datacenter, "t", well=well)
    assert sorted(at.told) == sorted([(name, well) for name in GATEWAYS for well in (True, False)] * 2)


def test_what_is_remembered_is_bounded_and_those_served_well_do_not_displace_the_others() -> None:
    at = Process(users_max=3)
    at.met.note("rabat", "t", well=False)
    for number in range(100):
        at.met.note("rabat", f"u{number}", well=True)
    at.met.note("rabat", "t", well=False)
    assert at.counts == Counts(ok=100, failed=1)
    assert {well: len(told) for well, told in at.met._told.items()} == {True: 3, False: 1}


def test_nobody_need_listen() -> None:
    UsersMet(nobody_listens).note("rabat", "t", well=True)


@given(st.lists(st.tuples(st.floats(0, 8), st.integers(0, 5), st.booleans()), max_size=80))
def test_nobody_is_told_of_twice_in_a_window(steps: list[tuple[float, int, bool]]) -> None:
    at, told = Process(), defaultdict(list)
    for later_s, number, well in steps:
        at.now += later_s
        before = len(at.told)
        at.met.note("rabat", f"u{number}", well=well)
        if len(at.told) > before:
            told[number, well].append(at.now)
        assert at.now - told[number, well][-1] < USERS_WINDOW_S
    for instants in told.values():
        assert all(b - a >= USERS_WINDOW_S for a, b in itertools.pairwise(instants))


class Country:
    """Two gateways of several workers, the directors beside them, and everything else in order."""

    def __init__(self) -> None:
        self.workers = {site: [Process() for _ in range(WORKERS)] for site in GATEWAYS}
        self.users = {site: Users() for site in GATEWAYS}
        self.now = 0.0

    def fail(self, site: str, worker: int, user: str) -> None:
        process = self.workers[site][worker]
        process.now = self.now
        process.met.note("rabat", user, well=False)

    def second(self) -> Verdict:
        """A second passes; what the director of Marrakech then finds."""
        self.now += 1.0
        for site, users in self.users.items():
            counts = [process.counts for process in self.workers[site]]
            total = Counts(ok=sum(one.ok for one in counts), failed=sum(one.failed for one in counts))
            users.note({"rabat": total}, now=self.now)
        return judge(self.observations(), active="rabat", target="marrakech").verdict

    def observations(self) -> dict[str, Observation]:
        return {
            site: seen(
                site,
                primary(),
                standby(),
                failed=users.failed().get("rabat", 0),
                **users.failing_s(self.now),
            )
            for site, users in self.users.items()
        }


REACHED = st.sets(st.tuples(st.sampled_from(GATEWAYS), st.integers(0, WORKERS - 1)))


@given(st.lists(REACHED, min_size=15, max_size=45))
def test_a_single_user_never_makes_it_gray_whatever_he_reaches(seconds: list[set[tuple[str, int]]]) -> None:
    country = Country()
    for reached in seconds:
        for site, worker in reached:
            country.fail(site, worker, "t")
        assert country.second() is not Verdict.GRAY
        for seen_there in country.observations().values():
            assert seen_there.users_failed.get("rabat", 0) <= WORKERS


def test_a_single_user_who_reaches_every_worker_all_the_time_does_not_make_it_gray() -> None:
    country = Country()
    for _ in range(120):
        for site in GATEWAYS:
            for worker in range(WORKERS):
                country.fail(site, worker, "t")
        assert country.second() is Verdict.HEALTHY


@pytest.mark.parametrize("together", [True, False])
def test_many_users_failing_make_it_gray_though_each_counts_once_a_window(together: bool) -> None:
    country = Country()
    found = [country.second()]
    for turn in range(25):
        for number in range(GRAY_USERS_MIN):
            if together or number == turn % GRAY_USERS_MIN:
                for site in GATEWAYS:
                    country.fail(site, 0, f"{site}{number}")
        found.append(country.second())
    assert Verdict.GRAY in found
    assert found.index(Verdict.GRAY) < 20
