"""A failing schedule told small: the operations that contradict each other, what happened around them, as text and SVG.

Invariant: the gravest findings come first, each subject once, and every operation that they name is drawn; what is left
out is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

from datacenters.audit_chain import AuditRow
from tests.failover.checker import Finding, Wrong
from tests.failover.history import Kind, Operation, Outcome
from tests.failover.moves import Fault

AROUND_S = 0.5
NEIGHBOURS_MAX = 16
FINDINGS_SHOWN_MAX = 6
SHOWN_CHARS_MAX = 60
_WIDTH, _LEFT, _ROW = 1200, 190, 22
_FILL = {Outcome.OK: "#4a90d9", Outcome.FAILED: "#b0b0b0", Outcome.UNKNOWN: "#e8b84a"}


class Told(msgspec.Struct, frozen=True):
    """One schedule, as it is drawn; times are seconds of the load's clock."""

    seed: str
    operations: Sequence[Operation]
    findings: Sequence[Finding]
    faults: Sequence[Fault]
    rows: Sequence[AuditRow]
    unix_minus_monotonic_s: float

    @property
    def zero(self) -> float:
        """When the load began."""
        return min((one.began for one in self.operations), default=0.0)

    @property
    def told(self) -> list[Finding]:
        """The findings that are told: the gravest first, each subject once."""
        gravity = list(Wrong)
        first = {(one.wrong, one.subject): one for one in reversed(self.findings)}
        return sorted(first.values(), key=lambda one: (gravity.index(one.wrong), one.operations))[
            :FINDINGS_SHOWN_MAX
        ]

    @property
    def named(self) -> set[int]:
        """The operations that they name."""
        return {index for finding in self.told for index in finding.operations}

    def changed_at(self, row: AuditRow) -> float:
        """When a change of the record was decided."""
        return row.after.decided_at - self.unix_minus_monotonic_s

    def shown(self) -> list[Operation]:
        """The operations that findings name, then their nearest neighbours, by beginning."""
        named = self.named
        by_index = {one.index: one for one in self.operations}
        chosen = [by_index[index] for index in sorted(named) if index in by_index]
        near = [
            (min(abs(one.began - other.ended) for other in chosen), one)
            for one in self.operations
            if chosen and one.index not in named and one.kind is Kind.APPEND
        ]
        near = sorted((found for found in near if found[0] <= AROUND_S), key=lambda found: found[0])
        return sorted([*chosen, *(one for _, one in near[:NEIGHBOURS_MAX])], key=lambda one: one.began)


def text(told: Told) -> str:
    """The seed, what was found, and what happened when; seconds since the load began."""
    lines = [f"seed {told.seed}: {len(told.findings)} findings in {len(told.operations)} operations"]
    lines += [f"  {one.wrong}: {one.sentence}" for one in told.told]
    if len(told.findings) > len(told.told):
        lines.append(f"  and {len(told.findings) - len(told.told)} more")
    named = told.named
    events: list[tuple[float, str]] = []
    for fault in told.faults:
        events.append(
            (fault.began, f"--- fault: {fault.name} at {fault.where} ({fault.bitten or 'NOT BITTEN'})")
        )
        if fault.ended is not None:
            events.append((fault.ended, f"--- mended: {fault.name} at {fault.where}"))
    for row in told.rows[1:]:
        after = row.after
        said = f"=== epoch {after.epoch} {after.phase}, active {after.active}, by {after.decided_by}: {after.reason}"
        events.append((told.changed_at(row), said))
    events.extend(
        (one.began, f"{'>>>' if one.index in named else '   '} {_line(one)}") for one in told.shown()
    )
    lines += [f"{at - told.zero:9.3f}  {said}" for at, said in sorted(events)]
    return "\n".join(lines) + "\n"


def _line(one: Operation) -> str:
    what = one.value if one.kind is Kind.APPEND else _cut(", ".join(one.seen[-3:]) or "nothing")
    version = "" if one.version is None else f" v{one.version}"
    return (
        f"#{one.index} p{one.process} {one.kind} {one.entity}{version} {what}: {one.outcome} after"
        f" {one.ended - one.began:.3f} s at {one.site or '-'} epoch {one.epoch} {one.mode or '-'} {one.slug}"
    ).rstrip()


def _cut(said: str) -> str:
    return said if len(said) <= SHOWN_CHARS_MAX else said[: SHOWN_CHARS_MAX - 1] + "…"


def svg(told: Told) -> str:
    """The same as a drawing: one row an operation, faults shaded, epochs as lines; what findings name has a red frame."""
    shown = told.shown()
    named = told.named
    times = [at for one in shown for at in (one.began, one.ended)] or [told.zero]
    times += [told.changed_at(row) for row in told.rows[1:]]
    first, last = min(times) - AROUND_S, max(times) + AROUND_S
    height = (len(shown) + 4) * _ROW

    def across(at: float) -> float:
        inside = min(max(at, first), last)
        return _LEFT + (_WIDTH - _LEFT - 10) * (inside - first) / (last - first)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="monospace"'
            f' font-size="11"><rect width="100%" height="100%" fill="white"/>'
        ),
        _label(4, 14, f"seed {told.seed}; {first - told.zero:.2f} s to {last - told.zero:.2f} s of the load"),
    ]
    for fault in told.faults:
        begins, ends = across(fault.began), across(last if fault.ended is None else fault.ended)
        parts.append(
            f'<rect x="{begins:.1f}" y="20" width="{max(1.0, ends - begins):.1f}" height="{height - 20}"'
            f' fill="#fbe3e3"/>' + _label(begins + 2, 32, f"{fault.name} {fault.where}")
        )
    for row in told.rows[1:]:
        x = across(told.changed_at(row))
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="36" y2="{height}" stroke="#555" stroke-dasharray="4 3"/>'
            + _label(x + 2, 46, f"{row.after.epoch} {row.after.phase}")
        )
    for number, one in enumerate(shown):
        y = 54 + number * _ROW
        begins, ends = across(one.began), across(one.ended)
        frame = ' stroke="#d0021b" stroke-width="2"' if one.index in named else ""
        parts.append(
            f'<rect x="{begins:.1f}" y="{y}" width="{max(2.0, ends - begins):.1f}" height="14"'
            f' fill="{_FILL[one.outcome]}"{frame}><title>{escape(_line(one))}</title></rect>'
            + _label(4, y + 11, _cut(f"{one.kind} {one.value or one.entity}")[:28])
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _label(x: float, y: float, said: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'
