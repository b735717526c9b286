"""What the tests of whole pairs share."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# A director that is ended while it connects, as a killed one is, leaves the half-made connection to the collector: the
# HTTP client's and the database driver's connect cannot be cancelled without. Nothing else that is left behind is overlooked.
HALF_MADE = "ignore:Exception ignored in. <(socket|function _SelectorTransport|function Connection.__del__):pytest.PytestUnraisableExceptionWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings(HALF_MADE))
