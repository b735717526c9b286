"""What a run of the results hour prints: every kind, what it makes of the estimate, and what is not in it."""

from __future__ import annotations

import msgspec

from bench import results_hour
from bench.machine import Cores
from bench.results_estimate import EACH, TITLES, Kind
from bench.results_hour import Result
from bench.visits import Cost, Round
from tests.bench.test_failover_figures import WHERE

PARTS = {kind: Cost(cpu_us=100.0, terminator_us=40.0) for kind in Kind} | {
    Kind.SIGN_IN: Cost(cpu_us=160_000.0, terminator_us=40.0)
}
ROUND = Round(idle=0.0, argon2id_s=0.15, parts=PARTS, visits_per_s=30.0, busy=0.6, visit_s=0.024)
RESULT = Result(
    where=WHERE,
    cores=Cores(server=0, load=1),
    terminator="HAProxy version 2.6",
    seconds=4,
    each=dict(EACH),
    rounds=[ROUND] * 6,
)


def line(text: str, begins: str) -> str:
    (found,) = [line for line in text.splitlines() if line.strip().startswith(begins)]
    return found


def test_every_kind_has_its_line_and_the_machine_is_named() -> None:
    text = results_hour.table(RESULT)
    assert all(title in text for title in TITLES.values())
    assert WHERE.processor in text
    assert "HAProxy version 2.6" in text
    assert "not counted: accounts database, etcd, Valkey" in text
    assert "(12,500 requests/s)" in text
    assert "160,000 (160,000 - 160,000)" in line(text, TITLES[Kind.SIGN_IN])


def test_nodes_follow_from_the_parts_and_from_whole_visits() -> None:
    text = results_hour.table(RESULT)
    # A person is 16 ms of sign-in and 0.59 ms of the rest: 41.475 cores' work, and as whole visits 60 of it.
    assert line(text, "by the sum of the parts").split() == ["by", "the", "sum", "of", "the", "parts", *(
        ["69.1", "(69.1", "-", "69.1)", "35", "(35", "-", "35)", "5", "(5", "-", "5)"]
    )]  # fmt: skip
    assert "100.0 (100.0 - 100.0)" in line(text, "by whole visits")
    assert line(text, "by whole visits").endswith("7 (7 - 7)")
    assert "1.45 (1.45 - 1.45)" in line(text, "30.0 visits/s, core 60% busy")


def test_sign_ins_are_told_apart() -> None:
    text = results_hour.table(RESULT)
    assert "one argon2id computation takes 150.0 (150.0 - 150.0) ms" in text
    assert line(text, "10% of the people within 600 s").split()[-8:] == (
        ["62.5", "(62.5", "-", "62.5)", "66.7", "(66.7", "-", "66.7)"]
    )
    assert "104.2 (104.2 - 104.2)" in line(text, "all of them within 3600 s")


def test_a_run_can_be_written() -> None:
    told = msgspec.json.decode(msgspec.json.encode(RESULT))
    assert told["rounds"][0]["parts"]["sign-in"]["cpu_us"] == 160_000.0
