from __future__ import annotations

import re

from sandbox.datacenter import parameters
from sandbox.datacenter.contract import READS, WRITES


def test_no_path_is_declared_twice() -> None:
    declared = [("GET", one.path) for one in READS] + [(one.method, one.path) for one in WRITES]
    assert len(set(declared)) == len(declared)


def test_every_path_parameter_is_understood() -> None:
    for path in (*(one.path for one in READS), *(one.path for one in WRITES)):
        assert set(re.findall(r"\{(\w+)\}", path)) <= parameters.PATH.keys()


def test_only_the_calendar_may_be_kept_by_anyone() -> None:
    assert [one.path for one in READS if not one.cache_control.startswith("private")] == ["/v1/calendar"]
