"""Who asks when a few ask for much, and which reads find that their answer has changed.

The manner of YCSB's workload B: keys by Zipf's law, 95 reads to 5 updates. None of the peers takes writes as the gateway
does, acknowledged after the datacenter's commit and a record in the journal, so a write itself is nothing to compare (`bench
journal` measures ours alone). What a write leaves behind is the same for all of them: a stored answer that no longer
holds, so that the next read goes to the origin and its answer is stored. So 5 % of the requests are such reads.

Invariant: the same draws in every run. Source: Cooper et al., Benchmarking Cloud Serving Systems with YCSB (SoCC 2010).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TypeVar

from bench.peers.people import Pupil
from bench.variants import CHANGING_WEEK

EXPONENT = 0.99
CHANGED_SHARE = 0.05
_SEED = 20_261_123
_Asks = TypeVar("_Asks")


def drawn(ranked: Sequence[_Asks], count: int) -> list[_Asks]:
    """`count` draws by Zipf's law: what stands first is drawn most, what stands at n as often by n to the EXPONENT."""
    weights = itertools.accumulate(rank**-EXPONENT for rank in range(1, len(ranked) + 1))
    return random.Random(_SEED).choices(ranked, cum_weights=list(weights), k=count)


def changing(pupil: Pupil) -> Pupil:
    """The same pupil asking for the week whose timetable has changed each time that it is asked for."""
    return Pupil(pupil.subject, f"{pupil.path}?week={CHANGING_WEEK}")


def mixed(tokens: Sequence[tuple[Pupil, str]]) -> list[tuple[Pupil, str]]:
    """As many reads as there are tokens, of which CHANGED_SHARE have a changed answer."""
    chance = random.Random(_SEED)
    return [
        (changing(pupil) if chance.random() < CHANGED_SHARE else pupil, token)
        for pupil, token in drawn(tokens, len(tokens))
    ]
