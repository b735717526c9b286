"""The sites setting is read whole, and the witness is no place to forward to."""

from __future__ import annotations

import pytest

from datacenters import sites

SETTING = """{
 "rabat": {"datacenter_url": "http://r:1/", "accounts_dsn": "postgresql://x", "private_url": "http://r:2",
           "name": {"ar": "الرباط", "fr": "Rabat"}},
 "marrakech": {"datacenter_url": "http://m:1"},
 "witness": {}
}"""


def test_addresses_and_names_are_read_and_other_fields_passed_over() -> None:
    found = sites.parse(SETTING)
    assert found["rabat"].private_url == "http://r:2"
    name = found["rabat"].name
    assert name is not None
    assert name.ar == "الرباط"


def test_the_witness_has_no_datacenter_and_urls_no_trailing_slash() -> None:
    assert sites.with_datacenter(sites.parse(SETTING)) == {"rabat": "http://r:1", "marrakech": "http://m:1"}


@pytest.mark.parametrize("text", ["", "[]", '{"rabat": 1}', '{"witness": {}}'])
def test_a_wrong_setting_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="MASSAR_SITES"):
        sites.parse(text)
