"""A model of two datacenters' directors over the pure transitions, interrupted between any two steps.

The detectors of this world may be wrong at any time: a director may believe the other site dead whenever it likes.
What must hold all the same are the invariants of the record and of the fences.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from datacenters import fence, record
from datacenters.control import Held
from datacenters.fence import Row, Step
from datacenters.record import Phase, Policy, Record, Refusal
from datacenters.word import Word

SITES = ("rabat", "marrakech")
START = 1_790_000_000.0
GUARD_S = 1.5  # how old the fence may be for a datacenter to take a write
SITE = st.sampled_from(SITES)


class Site:
    """One site: its PostgreSQL's fence and role, and a director that may be cut off or begin again."""

    def __init__(self, name: str, world: Country) -> None:
        self.name = name
        self.world = world
        self.in_recovery = name != "rabat"
        self.epoch, self.owner, self.heard_at = 1, "rabat", START
        self.connected = True
        self.begin_again()

    def begin_again(self) -> None:
        self.word = Word(monotonic=lambda: self.world.now)

    @property
    def row(self) -> Row:
        at = datetime.fromtimestamp(self.world.now, UTC)
        return Row(in_recovery=self.in_recovery, epoch=self.epoch, site=self.owner, at=at)

    def takes_writes_of(self, epoch: int) -> bool:
        return not self.in_recovery and self.epoch == epoch and 0 <= self.world.now - self.heard_at <= GUARD_S


class Country(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        policy = Policy(moves_per_day=3)
        self.held = self._held(record.first(active="rabat", by="tests", now=START, policy=policy))
        self.chain = [self.held.record]
        self.claims: list[tuple[float, int]] = []
        self.sites = {name: Site(name, self) for name in SITES}

    @staticmethod
    def _held(found: Record) -> Held:
        return Held(record=found, raw=record.encode(found))

    def _write(self, seen: Held, after: Record | Refusal) -> bool:
        """What etcd's transaction does: the whole previous record is compared."""
        if isinstance(after, Refusal) or seen.raw != self.held.raw:
            return False
        if after.epoch > self.held.record.epoch:
            self.claims.append((self.now, after.epoch))
        self.held = self._held(after)
        self.chain.append(after)
        return True

    @rule(passed_s=st.sampled_from([0.125, 0.25, 0.875, 1.375, 5.0, 400.0, 900.0, 30_000.0]))
    def time_passes(self, passed_s: float) -> None:
        self.now += passed_s

    @rule(name=SITE)
    def hears(self, name: str) -> None:
        site = self.sites[name]
        if site.connected:
            site.word.hear(self.held, asked_at=self.now)

    @rule(name=SITE)
    def is_cut_off(self, name: str) -> None:
        self.sites[name].connected = False

    @rule(name=SITE)
    def is_joined_again(self, name: str) -> None:
        self.sites[name].connected = True

    @rule(name=SITE)
    def director_dies_and_begins_again(self, name: str) -> None:
        self.sites[name].begin_again()

    @rule(name=SITE)
    def claims_from_what_it_last_heard(self, name: str) -> None:
        """However old that is: the comparison must stop a stale one."""
        site = self.sites[name]
        seen = site.word.held
        if seen is None or not site.connected or seen.record.serving in {None, name}:
            return
        after = record.claim(seen.record, target=name, reason="dead", evidence={}, now=self.now, by=name)
        self._write(seen, after)

    @rule(name=SITE)
    def promotes(self, name: str) -> None:
        """As the director does: only on a record read again just now."""
        site = self.sites[name]
        if self._named(site):
            site.in_recovery = False

    @rule(name=SITE)
    def raises_its_fence_after_promotion(self, name: str) -> None:
        site = self.sites[name]
        if self._named(site) and not site.in_recovery and site.epoch < self.held.record.epoch:
            site.epoch, site.owner, site.heard_at = self.held.record.epoch, name, self.now

    @rule(name=SITE)
    def begins_its_replay(self, name: str) -> None:
        site = self.sites[name]
        seen = site.word.held
        if seen is None or not site.connected or site.in_recovery or site.epoch != seen.record.epoch:
            return
        after = record.begin_replay(seen.record, site=name, switch_position="1-1", now=self.now, by=name)
        self._write(seen, after)

    @rule(name=SITE)
    def activates(self, name: str) -> None:
        site = self.sites[name]
        seen = site.word.held
        if seen is None or not site.connected or site.in_recovery or site.epoch != seen.record.epoch:
            return
        self._write(seen, record.activate(seen.record, site=name, now=self.now, by=name))

    @rule(name=SITE)
    def looks_after_its_fence(self, name: str) -> None:
        site = self.sites[name]
        declared, age_s = site.word.record, site.word.age_s()
        todo = fence.step(declared, word_age_s=age_s, site=name, row=site.row)
        if declared is None or todo is Step.NOTHING:
            return
        if todo is Step.RENEW:
            site.heard_at = self.now - age_s
        elif todo is Step.RAISE:
            site.epoch, site.owner, site.heard_at = declared.epoch, name, self.now - age_s
        else:
            site.epoch, site.owner, site.heard_at = declared.epoch, declared.target or declared.active, 0.0

    @rule(stale=st.booleans(), releasing=st.booleans())
    def a_human_holds_or_releases(self, stale: bool, releasing: bool) -> None:
        seen = self._held(self.chain[len(self.chain) // 2]) if stale else self.held
        change = record.release if releasing else record.hold
        self._write(seen, change(seen.record, reason="human", now=self.now, by="operator"))

    @precondition(lambda self: self.held.record.phase is Phase.ACTIVE)
    @rule(name=SITE)
    def the_other_one_follows_again(self, name: str) -> None:
        """A human rebuilt the site that is not active as a standby of the other."""
        active = self.held.record.active
        if name != active and not self.sites[active].in_recovery:
            site, leader = self.sites[name], self.sites[active]
            site.in_recovery = True
            site.epoch, site.owner, site.heard_at = leader.epoch, leader.owner, leader.heard_at

    def _named(self, site: Site) -> bool:
        if not site.connected:
            return False
        site.word.hear(self.held, asked_at=self.now)
        return (self.held.record.phase, self.held.record.target) == (Phase.PROMOTING, site.name)

    @invariant()
    def epochs_never_fall_and_rise_one_by_one(self) -> None:
        epochs = [found.epoch for found in self.chain]
        assert all(after - before in {0, 1} for before, after in itertools.pairwise(epochs))

    @invariant()
    def one_site_serves_per_epoch(self) -> None:
        serving: dict[int, set[str]] = {}
        for found in self.chain:
            if found.serving:
                serving.setdefault(found.epoch, set()).add(found.serving)
        assert all(len(names) == 1 for names in serving.values())

    @invariant()
    def no_automatic_move_within_the_dwell_or_beyond_the_days_count(self) -> None:
        times = [at for at, _ in self.claims]
        policy = self.held.record.policy
        assert all(b - a >= policy.dwell_s for a, b in itertools.pairwise(times))
        assert all(sum(0 <= b - a < record.DAY_S for b in times) <= policy.moves_per_day for a in times)

    @invariant()
    def nobody_moves_out_of_a_hold(self) -> None:
        for before, after in itertools.pairwise(self.chain):
            if after.epoch > before.epoch:
                assert before.phase is Phase.ACTIVE

    @invariant()
    def after_a_claim_lower_epochs_close_by_themselves(self) -> None:
        for claimed_at, epoch in self.claims:
            if self.now - claimed_at > GUARD_S:
                for site in self.sites.values():
                    assert not any(site.takes_writes_of(lower) for lower in range(epoch))

    @invariant()
    def two_sites_never_take_writes_of_the_same_epoch(self) -> None:
        epoch = self.held.record.epoch
        assert sum(site.takes_writes_of(epoch) for site in self.sites.values()) <= 1

    @invariant()
    def only_the_declared_site_takes_writes_of_the_present_epoch(self) -> None:
        now = self.held.record
        for site in self.sites.values():
            if site.takes_writes_of(now.epoch):
                assert site.name in {now.serving, now.target}

    @invariant()
    def the_record_survives_its_own_encoding(self) -> None:
        assert record.decode(self.held.raw) == self.held.record


TestCountry = Country.TestCase
TestCountry.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
