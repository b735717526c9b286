"""The journal's protocol holds whatever the network and crashes do, and each planted bug breaks an invariant that says so."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from datacenters.record import SERVING_PHASES, TAKEOVER_PHASES, Phase, Protection
from tests.failover.model import SITES, Bug, World

KEYS = [f"key-{number}" for number in range(6)]
ENTITIES = ["cell", "board"]
MESSAGES_MAX = 24
which = st.integers(0, MESSAGES_MAX)
entities = st.sampled_from(ENTITIES)
sites = st.sampled_from(SITES)

# What each planted bug is caught by.
CAUGHT_BY = {
    Bug.CLAIM_WITHOUT_RISE: "I1|I3|I4|I5",
    Bug.NO_DEDUP: "I5",
    Bug.NO_FENCE: "I6",
    Bug.ANSWER_BEFORE_JOURNAL: "I2|I3",
    Bug.REPLAY_BEFORE_PROMOTION_ENDS: "I5",
    Bug.PRUNE_BEFORE_CONFIRMATION: "I3|I4",
}


class Country(RuleBasedStateMachine):
    """Any step at any time; what a step needs to be taken, the model itself asks for."""

    bug = Bug.NONE

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.bug)

    @precondition(lambda self: len(self.world.messages) < MESSAGES_MAX)
    @rule(key=st.sampled_from(KEYS), entity=entities)
    def a_phone_asks_or_asks_again(self, key: str, entity: str) -> None:
        self.world.ask(key, entity)

    @precondition(lambda self: len(self.world.messages) < MESSAGES_MAX)
    @rule(key=st.sampled_from(KEYS), entity=entities, hops=st.integers(1, 4))
    def a_write_goes_so_many_hops_without_trouble(self, key: str, entity: str, hops: int) -> None:
        before = len(self.world.messages)
        self.world.ask(key, entity)
        for _ in range(hops):
            if len(self.world.messages) > before:
                self.world.deliver(before, again=False)

    @precondition(lambda self: self.world.messages)
    @rule(at=which, again=st.sampled_from([False, False, True]))
    def a_message_arrives(self, at: int, again: bool) -> None:
        self.world.deliver(at, again=again)

    @precondition(lambda self: self.world.messages)
    @rule()
    def the_latest_message_arrives(self) -> None:
        self.world.deliver(len(self.world.messages) - 1, again=False)

    @precondition(lambda self: self.world.messages)
    @rule(at=which)
    def a_message_is_lost(self, at: int) -> None:
        self.world.lose(at)

    @precondition(lambda self: self.world.heard != self.world.record)
    @rule()
    def workers_hear_the_record(self) -> None:
        self.world.hear()

    @rule(site=sites)
    def the_standby_applies_a_row(self, site: str) -> None:
        self.world.stream(site)

    @rule(site=sites)
    def a_standby_tells_what_it_has(self, site: str) -> None:
        self.world.look_for_what_is_confirmed(site)

    @precondition(lambda self: self.world.record.phase is Phase.ACTIVE)
    @rule()
    def the_standby_claims(self) -> None:
        self.world.claim()

    @precondition(lambda self: self.world.record.phase is Phase.ACTIVE)
    @rule()
    def a_human_asks_for_a_switchover(self) -> None:
        self.world.freeze()

    @precondition(lambda self: self.world.record.phase is Phase.FREEZING)
    @rule()
    def the_active_seals(self) -> None:
        self.world.seal()

    @precondition(lambda self: self.world.record.phase is Phase.SEALING)
    @rule()
    def the_target_claims_what_is_sealed(self) -> None:
        self.world.claim_sealed()

    @precondition(lambda self: self.world.record.phase is Phase.PROMOTING)
    @rule()
    def the_target_promotes(self) -> None:
        self.world.promote()

    @precondition(lambda self: self.world.record.phase is Phase.PROMOTING)
    @rule()
    def the_target_begins_its_replay(self) -> None:
        self.world.begin_replay()

    @precondition(lambda self: self.world.record.phase in TAKEOVER_PHASES and self.world.journal)
    @rule(entity=entities)
    def the_target_replays(self, entity: str) -> None:
        self.world.replay(entity)

    @precondition(lambda self: self.world.record.phase is Phase.REPLAYING and self.world.journal)
    @rule(entity=entities)
    def the_target_gives_records_their_new_place(self, entity: str) -> None:
        self.world.move(entity)

    @precondition(lambda self: self.world.record.phase is Phase.REPLAYING)
    @rule()
    def the_target_activates(self) -> None:
        self.world.activate()

    @precondition(lambda self: self.world.record.phase not in SERVING_PHASES)
    @rule(chance=st.integers(0, 4))
    def a_human_gives_up_a_move(self, chance: int) -> None:
        if not chance:
            self.world.abort()

    @precondition(lambda self: self.world.record.phase in SERVING_PHASES)
    @rule()
    def the_serving_site_raises_its_fence(self) -> None:
        self.world.raise_fence()

    @rule()
    def the_other_one_follows_again(self) -> None:
        self.world.rejoin()

    @rule(protection=st.sampled_from(Protection), chance=st.integers(0, 3))
    def the_journal_ends_or_returns(self, protection: Protection, chance: int) -> None:
        if not chance:
            self.world.protect(protection)

    @invariant()
    def i1_epochs_rise_one_by_one_and_one_site_serves_in_each(self) -> None:
        chain = self.world.chain
        assert all(b.epoch - a.epoch in {0, 1} for a, b in itertools.pairwise(chain)), "I1: epochs"
        serving: dict[int, set[str]] = {}
        for found in chain:
            if found.serving:
                serving.setdefault(found.epoch, set()).add(found.serving)
        assert all(len(names) == 1 for names in serving.values()), f"I1: {serving}"

    @invariant()
    def i2_i6_no_step_went_against_an_epoch_it_knew(self) -> None:
        assert not self.world.broken, self.world.broken[0]

    @invariant()
    def i3_what_is_promised_is_in_the_journal_until_both_have_it(self) -> None:
        world = self.world
        journaled = {row.key for row in world.journal.values()}
        databases = world.databases.values()
        for key in set(world.promised) - journaled - world.unprotected:
            assert all(database.row(key) for database in databases), f"I3: {key} has one copy"

    @invariant()
    def i4_what_is_promised_is_where_writes_are_taken(self) -> None:
        serving = self.world.record.serving
        if serving is not None:
            for key in set(self.world.promised) - self.world.unprotected:
                assert self.world.databases[serving].row(key) is not None, f"I4: {key} is lost"

    @invariant()
    def i5_each_key_has_one_effect_and_one_answer(self) -> None:
        world = self.world
        for database in world.databases.values():
            keys = [row.key for row in database.rows]
            assert len(keys) == len(set(keys)), f"I5: done twice at {database.site}"
        for key, answers in world.answers.items():
            if key not in world.unprotected:
                assert len(answers) == 1, f"I5: {key} was answered {answers}"

    @invariant()
    def i7_what_was_acknowledged_first_stands_first(self) -> None:
        world = self.world
        serving = world.record.serving
        if serving is None:
            return
        order = {row.key: place for place, row in enumerate(world.databases[serving].rows)}
        for earlier, at in world.acknowledged_at.items():
            for later, asked_at in world.asked_at.items():
                same = world.entity_of[earlier] == world.entity_of[later]
                if same and at < asked_at and {earlier, later} <= set(order):
                    assert order[earlier] < order[later], f"I7: {later} stands before {earlier}"


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        stateful_step_count=60,
        derandomize=True,
        phases=[Stage.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def test_the_protocol_holds() -> None:
    run_state_machine_as_test(Country, settings=examples(400))


@pytest.mark.parametrize("planted", [bug for bug in Bug if bug is not Bug.NONE], ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(planted: Bug) -> None:
    class Buggy(Country):
        bug = planted

    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(Buggy, settings=examples(4000))
    assert re.match(CAUGHT_BY[planted], str(caught.value)), caught.value
