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
from datacenters.record import FREEZE_PHASES, TAKEOVER_PHASES, Phase, Policy, Protection, Record, Refusal
from datacenters.word import Word

SITES = ("rabat", "marrakech")
START = 1_790_000_000.0
GUARD_S = 1.5  # how old the fence may be for a datacenter to take a write
SITE = st.sampled_from(SITES)
FRESH = st.sampled_from([True, True, False])
RARELY = st.integers(0, 4)
MOVER = st.sampled_from(["mover", "mover", "mover", *SITES])  # whose turn it is, mostly


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
        self.rises: list[tuple[float, int]] = []  # claims, planned ones and aborts included
        self.moves: list[float] = []  # claims that nobody ordered
        self.sites = {name: Site(name, self) for name in SITES}

    @staticmethod
    def _held(found: Record) -> Held:
        return Held(record=found, raw=record.encode(found))

    def _write(self, seen: Held, after: Record | Refusal) -> bool:
        """What etcd's transaction does: the whole previous record is compared."""
        if isinstance(after, Refusal) or seen.raw != self.held.raw:
            return False
        if after.epoch > self.held.record.epoch:
            self.rises.append((self.now, after.epoch))
        if after.moves != self.held.record.moves:
            self.moves.append(self.now)
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

    @rule(name=SITE, chance=RARELY)
    def is_cut_off(self, name: str, chance: int) -> None:
        if not chance:
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

    @precondition(lambda self: self.held.record.phase is Phase.PROMOTING)
    @rule(name=MOVER)
    def promotes(self, name: str) -> None:
        """As the director does: only on a record read again just now."""
        site = self._whose(name)
        if self._named(site):
            site.in_recovery = False

    @precondition(lambda self: self.held.record.phase is Phase.PROMOTING)
    @rule(name=MOVER)
    def raises_its_fence_after_promotion(self, name: str) -> None:
        site = self._whose(name)
        if self._named(site) and not site.in_recovery and site.epoch < self.held.record.epoch:
            site.epoch, site.owner, site.heard_at = self.held.record.epoch, site.name, self.now

    @precondition(lambda self: self.held.record.phase is Phase.PROMOTING)
    @rule(name=MOVER, fresh=FRESH)
    def begins_its_replay(self, name: str, fresh: bool) -> None:
        site = self._whose(name)
        seen = self._seen(site, fresh=fresh)
        if seen is None or not site.connected or site.in_recovery or site.epoch != seen.record.epoch:
            return
        after = record.begin_replay(
            seen.record, site=site.name, switch_position="1-1", now=self.now, by=site.name
        )
        self._write(seen, after)

    @precondition(lambda self: self.held.record.phase is Phase.REPLAYING)
    @rule(name=MOVER, fresh=FRESH)
    def activates(self, name: str, fresh: bool) -> None:
        site = self._whose(name)
        seen = self._seen(site, fresh=fresh)
        if seen is None or not site.connected or site.in_recovery or site.epoch != seen.record.epoch:
            return
        self._write(seen, record.activate(seen.record, site=site.name, now=self.now, by=site.name))

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

    @rule(stale=st.booleans(), releasing=st.booleans(), chance=RARELY)
    def a_human_holds_or_releases(self, stale: bool, releasing: bool, chance: int) -> None:
        if chance and not releasing:
            return
        seen = self._held(self.chain[len(self.chain) // 2]) if stale else self.held
        change = record.release if releasing else record.hold
        self._write(seen, change(seen.record, reason="human", now=self.now, by="operator"))

    @rule(stale=st.booleans(), stopping=st.booleans(), chance=RARELY)
    def a_human_stops_or_allows_writes(self, stale: bool, stopping: bool, chance: int) -> None:
        if chance and stopping:
            return
        seen = self._held(self.chain[len(self.chain) // 2]) if stale else self.held
        change = record.stop_writes if stopping else record.allow_writes
        self._write(seen, change(seen.record, reason="human", now=self.now, by="operator"))

    @rule(stale=st.booleans(), name=SITE)
    def a_human_switches_over(self, stale: bool, name: str) -> None:
        seen = self._held(self.chain[len(self.chain) // 2]) if stale else self.held
        after = record.freeze(
            seen.record, target=name, reason="planned", evidence={}, now=self.now, by="operator"
        )
        self._write(seen, after)

    @precondition(lambda self: self.held.record.phase is Phase.FREEZING)
    @rule(name=MOVER, dies=st.booleans(), fresh=FRESH)
    def freezes_its_datacenter_and_seals(self, name: str, dies: bool, fresh: bool) -> None:
        """As the director does: the row names the successor before the record says so; it may die in between."""
        site = self._whose(name)
        seen = self._seen(site, fresh=fresh)
        if seen is None or seen.record.phase is not Phase.FREEZING or seen.record.active != site.name:
            return
        if (site.epoch, site.owner) == (seen.record.epoch, site.name) and not site.in_recovery:
            site.owner, site.heard_at = str(seen.record.target), 0.0
        if (
            site.connected
            and not dies
            and (site.epoch, site.owner) == (seen.record.epoch, seen.record.target)
        ):
            self._write(
                seen,
                record.seal(seen.record, site=site.name, frozen_position="1-7", now=self.now, by=site.name),
            )

    @precondition(lambda self: self.held.record.phase is Phase.SEALING)
    @rule(name=MOVER, fresh=FRESH)
    def claims_what_is_sealed(self, name: str, fresh: bool) -> None:
        site = self._whose(name)
        seen = self._seen(site, fresh=fresh)
        if seen is not None and site.connected:
            self._write(seen, record.claim_sealed(seen.record, site=site.name, now=self.now, by=site.name))

    @precondition(lambda self: self.held.record.phase in FREEZE_PHASES | TAKEOVER_PHASES)
    @rule()
    def whose_turn_it_is_takes_the_next_step(self) -> None:
        """Without this few runs would get through a whole move."""
        phase = self.held.record.phase
        if phase is Phase.FREEZING:
            self.freezes_its_datacenter_and_seals("mover", dies=False, fresh=True)
        elif phase is Phase.SEALING:
            self.claims_what_is_sealed("mover", fresh=True)
        elif phase is Phase.PROMOTING:
            self.promotes("mover")
            self.raises_its_fence_after_promotion("mover")
            self.begins_its_replay("mover", fresh=True)
        else:
            self.activates("mover", fresh=True)

    @precondition(lambda self: self.held.record.phase in FREEZE_PHASES | TAKEOVER_PHASES)
    @rule(stale=st.booleans(), chance=st.integers(0, 3))
    def a_move_is_given_up(self, stale: bool, chance: int) -> None:
        seen = self._held(self.chain[-2]) if stale else self.held
        if not chance:
            self._write(seen, record.abort(seen.record, reason="human", now=self.now, by="operator"))

    @rule(protection=st.sampled_from(Protection), chance=st.integers(0, 3))
    def the_journal_ends_or_returns(self, protection: Protection, chance: int) -> None:
        if not chance:
            after = record.protect(
                self.held.record, protection=protection, reason="bound", now=self.now, by="rabat"
            )
            self._write(self.held, after)

    @precondition(lambda self: self.held.record.phase is Phase.ACTIVE)
    @rule(name=SITE)
    def the_other_one_follows_again(self, name: str) -> None:
        """A human rebuilt the site that is not active as a standby of the other."""
        active = self.held.record.active
        if name != active and not self.sites[active].in_recovery:
            site, leader = self.sites[name], self.sites[active]
            site.in_recovery = True
            site.epoch, site.owner, site.heard_at = leader.epoch, leader.owner, leader.heard_at

    def _whose(self, name: str) -> Site:
        """The site of this name; the one whose step the record asks for when it is the mover's."""
        now = self.held.record
        mover = now.active if now.phase is Phase.FREEZING else now.target
        return self.sites[str(mover) if name == "mover" else name]

    def _seen(self, site: Site, *, fresh: bool) -> Held | None:
        """What the director last heard; read again just now when `fresh` and possible."""
        if fresh and site.connected:
            site.word.hear(self.held, asked_at=self.now)
        return site.word.held

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
        policy = self.held.record.policy
        assert all(b - a >= policy.dwell_s for a, b in itertools.pairwise(self.moves))
        for a in self.moves:
            assert sum(0 <= b - a < record.DAY_S for b in self.moves) <= policy.moves_per_day

    @invariant()
    def an_epoch_rises_by_a_claim_a_sealed_switchover_or_an_abort_alone(self) -> None:
        for before, after in itertools.pairwise(self.chain):
            if after.epoch == before.epoch:
                continue
            if after.moves != before.moves:
                assert (before.phase, before.protection) == (Phase.ACTIVE, Protection.JOURNAL)
            elif after.phase is Phase.PROMOTING:
                assert (before.phase, after.planned, after.target) == (Phase.SEALING, True, before.target)
                assert before.frozen_position is not None
            else:
                assert before.phase in FREEZE_PHASES | TAKEOVER_PHASES
                assert (after.phase, after.active) == (Phase.ACTIVE, before.active)

    @invariant()
    def the_role_goes_only_to_who_was_promoted_at_this_epoch(self) -> None:
        for before, after in itertools.pairwise(self.chain):
            if after.active != before.active:
                assert (before.phase, before.target, before.epoch) == (
                    Phase.REPLAYING,
                    after.active,
                    after.epoch,
                )

    @invariant()
    def after_an_epoch_rose_lower_ones_close_by_themselves(self) -> None:
        for rose_at, epoch in self.rises:
            if self.now - rose_at > GUARD_S:
                for site in self.sites.values():
                    assert not any(site.takes_writes_of(lower) for lower in range(epoch))

    @invariant()
    def what_is_sealed_takes_no_write_and_what_is_stopped_soon_none(self) -> None:
        now = self.held.record
        stopped = now.phase is Phase.READ_ONLY and self.now - now.decided_at > GUARD_S
        if now.phase is Phase.SEALING or stopped:
            assert not any(site.takes_writes_of(now.epoch) for site in self.sites.values())

    @invariant()
    def two_sites_never_take_writes_of_the_same_epoch(self) -> None:
        epoch = self.held.record.epoch
        assert sum(site.takes_writes_of(epoch) for site in self.sites.values()) <= 1

    @invariant()
    def only_the_declared_site_takes_writes_of_the_present_epoch(self) -> None:
        now = self.held.record
        for site in self.sites.values():
            if site.takes_writes_of(now.epoch):
                closing = now.phase in {Phase.FREEZING, Phase.READ_ONLY}
                assert site.name in {now.serving, now.target, now.active if closing else None}

    @invariant()
    def the_record_survives_its_own_encoding(self) -> None:
        assert record.decode(self.held.raw) == self.held.record


TestCountry = Country.TestCase
TestCountry.settings = settings(max_examples=200, stateful_step_count=60)
