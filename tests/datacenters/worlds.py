"""Hypothesis strategies and ready-made values for records and observations."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from datacenters import record
from datacenters.record import OtherWriters, Phase, Policy, Protection, Record
from datacenters.verdict import Health, Look, Observation

SITES = ("rabat", "marrakech")
NOW = 1_790_000_000.0

AGES = st.none() | st.floats(0, 60)
HEALTHS = st.builds(
    Health,
    role=st.sampled_from(["primary", "standby"]),
    epoch=st.integers(1, 5),
    position=st.just("1-5"),
    receipt_age_s=AGES,
    lag_s=AGES,
    writable=st.booleans(),
)
LOOKS = st.builds(Look, failures=st.integers(0, 12), silent_s=st.floats(0, 60), health=st.none() | HEALTHS)
FAILING = st.dictionaries(st.sampled_from(SITES), st.floats(0, 30), max_size=2)
FAILED = st.dictionaries(st.sampled_from(SITES), st.integers(0, 20), max_size=2)


def observations_of(site: str) -> st.SearchStrategy[Observation]:
    return st.builds(
        Observation,
        site=st.just(site),
        sequence=st.integers(1, 99),
        looks=st.fixed_dictionaries({}, optional=dict.fromkeys(SITES, LOOKS)),
        users_failing_s=FAILING,
        users_failed=FAILED,
    )


OBSERVATIONS = st.fixed_dictionaries(
    {}, optional={site: observations_of(site) for site in (*SITES, "witness")}
)

POLICIES = st.builds(
    Policy,
    auto=st.booleans(),
    dwell_s=st.integers(0, 100_000),
    moves_per_day=st.integers(0, 4),
    other_writers=st.sampled_from(OtherWriters),
)
RECORDS = st.builds(
    Record,
    epoch=st.integers(1, 1000),
    phase=st.sampled_from(Phase),
    active=st.sampled_from(SITES),
    target=st.none() | st.sampled_from(SITES),
    reason=st.text(max_size=20),
    evidence=st.just({}),
    decided_by=st.just("director:rabat"),
    decided_at=st.floats(0, 2e9),
    switch_position=st.none() | st.just("1-7"),
    policy=POLICIES,
    moves=st.lists(st.floats(NOW - 200_000, NOW + 1000), max_size=5).map(tuple),
    planned=st.booleans(),
    frozen_position=st.none() | st.just("1-7"),
    protection=st.sampled_from(Protection),
)


def declared(**changes: Any) -> Record:
    """Epoch 1 at Rabat, never moved."""
    first = record.first(active="rabat", by="tests", now=NOW)
    return msgspec.structs.replace(first, **changes)


def primary(**changes: Any) -> Look:
    return Look(
        failures=0,
        silent_s=0.1,
        health=Health(role="primary", epoch=1, position="1-9", writable=True, **changes),
    )


def standby(**changes: Any) -> Look:
    said = {"receipt_age_s": 0.2, "lag_s": 0.0, **changes}
    return Look(failures=0, silent_s=0.1, health=Health(role="standby", epoch=1, position="1-9", **said))


def silent(*, failures: int = 8, silent_s: float = 3.0) -> Look:
    return Look(failures=failures, silent_s=silent_s, health=Health(role="primary", epoch=1, position="1-9"))


def seen(site: str, rabat: Look, marrakech: Look, /, *, failed: int = 0, **failing: float) -> Observation:
    """What a site sees; `failing` is for how long, by datacenter, and `failed` how many users each of these failed."""
    return Observation(
        site=site,
        sequence=1,
        looks={"rabat": rabat, "marrakech": marrakech},
        users_failing_s=failing,
        users_failed=dict.fromkeys(failing, failed),
    )


def all_well() -> dict[str, Observation]:
    """Three sites that see Rabat serve and Marrakech follow."""
    return {site: seen(site, primary(), standby()) for site in (*SITES, "witness")}


def rabat_lost(
    *, receipt_age_s: float | None = 2.6, silent_s: float = 2.6, **own: Any
) -> dict[str, Observation]:
    """Rabat is gone with all it had; Marrakech and the witness agree on it."""
    gone = silent(silent_s=silent_s)
    return {
        site: seen(site, gone, standby(receipt_age_s=receipt_age_s, **own))
        for site in ("marrakech", "witness")
    }
