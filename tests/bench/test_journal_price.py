"""The journal's price: what is compared differs by the journal alone."""

from __future__ import annotations

import pytest

from bench import variants
from bench.figures import figure
from bench.journal_price import AT_ONCE, COMMIT, JOURNAL, Block, Result, table
from datacenters.journal import Journal
from tests.bench.test_failover_figures import WHERE


async def test_without_the_journal_a_record_is_kept_at_once_and_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept_by = Journal.keep
    monkeypatch.setattr(Journal, "keep", kept_by)
    monkeypatch.setattr("gateway.asgi.build", lambda: "the gateway")
    assert variants.without_journal() == "the gateway"
    journal = Journal.__new__(Journal)
    kept = await journal.keep(None, epoch=1, at=(0, 0))  # type: ignore[arg-type]  # nothing of it is looked at
    assert not kept.protected
    assert Journal.keep is not kept_by


def test_the_table_shows_both_and_their_ratios() -> None:
    blocks = [Block(median_s=0.004, p99_s=0.01, writes_per_s=150.0, cpu_us_per_write=2000.0)] * 2
    two = figure([1.5, 2.5])
    shown = table(Result(WHERE, 2, {JOURNAL: blocks, COMMIT: blocks}, two, two, two, two))
    assert "4.00 (4.00 - 4.00)" in shown
    assert shown.count("2.00 (1.75 - 2.25)") == 4
    assert AT_ONCE > 1
