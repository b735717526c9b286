"""A take-over is this site's affair only while the record says so (its steps: tests/failover/test_promotion.py)."""

from __future__ import annotations

import pytest

from datacenters.record import Phase
from datacenters.taking_over import Takeover
from tests.datacenters.worlds import NOW, declared


def takeover(site: str = "marrakech") -> Takeover:
    return Takeover("postgresql://nowhere", site=site, by=f"director:{site}", replay=None, clock=lambda: NOW)


@pytest.mark.parametrize("phase", Phase)
def test_only_the_target_of_a_move_is_named(phase: Phase) -> None:
    under_way = declared(epoch=2, phase=phase, target="marrakech")
    assert takeover().named(under_way) == (phase in {Phase.SEALING, Phase.PROMOTING, Phase.REPLAYING})
    assert not takeover("rabat").named(under_way)


def test_nobody_is_named_before_the_record_is_known() -> None:
    assert not takeover().named(None)
