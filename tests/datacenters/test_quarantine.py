"""A report is its owner's alone, whole or not there, and the newest one counts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from datacenters import quarantine
from datacenters.fenced import Fate, Orphan, Report, Written
from datacenters.quarantine import Quarantine

WRITTEN = Written(
    principal="teacher:t1",
    route="POST /x",
    key="k",
    digest="00ff",
    decided_at="2026-11-22T06:00:00+00:00",
    order_lsn=9,
)
REPORT = Report(
    site="rabat", epoch=2, active="marrakech", timeline=1, fork_lsn=7, listed_at=10.0,
    orphans=(Orphan(WRITTEN), Orphan(WRITTEN, Fate.ABSENT)),
)  # fmt: skip


def test_nothing_was_ever_reported(tmp_path: Path) -> None:
    assert Quarantine(tmp_path).newest() is None
    assert Quarantine(tmp_path / "not there").newest() is None


def test_a_report_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    kept = Quarantine(tmp_path / "reports")
    path = kept.write(REPORT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert kept.newest() == REPORT
    assert kept.newest().number(Fate.ABSENT) == 1  # type: ignore[union-attr]  # just read


def test_the_same_rejoin_has_one_report_and_a_later_one_counts(tmp_path: Path) -> None:
    kept = Quarantine(tmp_path)
    first = kept.write(REPORT)
    done = msgspec.structs.replace(REPORT, rejoined_at=11.0)
    assert kept.write(done) == first
    assert kept.newest() == done
    later = msgspec.structs.replace(REPORT, epoch=10, listed_at=5.0)
    kept.write(later)
    assert kept.newest() == later
    assert len(list(tmp_path.iterdir())) == 2


def test_half_a_report_is_none(tmp_path: Path) -> None:
    kept = Quarantine(tmp_path)
    kept.write(REPORT)
    (tmp_path / "rejoin-0000000009-0000000000000.123").write_text("{")  # left by a director that was killed
    assert kept.newest() == REPORT


def test_what_cannot_be_a_report_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Quarantine(tmp_path)
    path = kept.write(REPORT)
    monkeypatch.setattr(quarantine, "REPORT_BYTES_MAX", 10)
    with pytest.raises(OSError, match="too large"):
        kept.newest()
    monkeypatch.undo()
    path.write_text("{}")
    with pytest.raises(msgspec.ValidationError):
        kept.newest()
