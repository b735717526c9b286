"""The ratios of a comparison as a drawing: one row a peer, a dot at the median, a line over its interval.

Invariant: pure; what is drawn is what the table says, on a scale of powers of two whose middle line is a draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from bench.figures import Figure
from bench.peers.running import Compared, Result

WIDTH, NAMES_WIDTH, ROW, HEAD, MARGIN = 900, 360, 22, 34, 16
_LABEL = "throughput of the gateway as a multiple of each peer's"
_STYLE = (
    "text{font:13px sans-serif;fill:#222} .title{font-weight:bold} .tick{font-size:11px;fill:#666}"
    " .line{stroke:#bbb} .even{stroke:#444} .span{stroke:#06c;stroke-width:3} .dot{fill:#06c} .aim{stroke:#c60;stroke-width:2}"
)


def svg(result: Result) -> str:
    """Throughput of ours as a multiple of each peer's, scenario by scenario."""
    rows = sum(len(compared.throughput) for compared in result.scenarios.values())
    height = 2 * MARGIN + HEAD * (len(result.scenarios) + 2) + ROW * rows
    where = result.where
    foot = f"{where.processor}, {where.cores} cores; {result.how.rounds} rounds; line: 95 % interval; orange: aim"
    low, high = _scale(result)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{_LABEL}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="tick" x="{MARGIN}" y="{MARGIN + 10}">{escape(_LABEL)}</text>',
        *_ticks(low, high, height - HEAD),
    ]
    top = MARGIN + HEAD
    for compared in result.scenarios.values():
        lines += _scenario(compared, top, low, high)
        top += HEAD + ROW * len(compared.throughput)
    lines.append(f'<text class="tick" x="{MARGIN}" y="{height - MARGIN // 2}">{escape(foot)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _scale(result: Result) -> tuple[int, int]:
    """The powers of two that everything lies between."""
    shown = [
        value
        for compared in result.scenarios.values()
        for figure in compared.throughput.values()
        for value in (figure.low, figure.high)
    ]
    aims = [aim for compared in result.scenarios.values() for aim in compared.aims.values()]
    least, most = min([1.0, *shown, *aims]), max([1.0, *shown, *aims])
    return math.floor(math.log2(least)), math.ceil(math.log2(most)) + (most == 1.0)


def _x(value: float, low: int, high: int) -> float:
    return NAMES_WIDTH + (math.log2(value) - low) / (high - low) * (WIDTH - NAMES_WIDTH - 2 * MARGIN)


def _ticks(low: int, high: int, height: int) -> Iterator[str]:
    for power in range(low, high + 1):
        x, kind = _x(2.0**power, low, high), "even" if power == 0 else "line"
        label = f"{2**power}x" if power >= 0 else f"1/{2**-power}"
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN + 18}" y2="{height - MARGIN}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{MARGIN + 10}" text-anchor="middle">{label}</text>'


def _scenario(compared: Compared, top: int, low: int, high: int) -> Sequence[str]:
    lines = [f'<text class="title" x="{MARGIN}" y="{top + 20}">{escape(compared.title)}</text>']
    for number, (name, figure) in enumerate(compared.throughput.items()):
        middle = top + HEAD + ROW * number
        lines.append(f'<text x="{MARGIN}" y="{middle + 4}">{escape(compared.lanes[name])}</text>')
        if (aim := compared.aims.get(name)) is not None:
            x = _x(aim, low, high)
            lines.append(f'<line class="aim" x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 8}" y2="{middle + 8}"/>')
        lines += _dot(figure, middle, low, high)
    return lines


def _dot(figure: Figure, middle: int, low: int, high: int) -> Iterator[str]:
    left, at, right = (_x(value, low, high) for value in (figure.low, figure.median, figure.high))
    yield f'<line class="span" x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}"/>'
    yield f'<circle class="dot" cx="{at:.1f}" cy="{middle}" r="5"><title>{figure.median:.2f}</title></circle>'
