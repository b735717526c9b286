"""The sites setting is read whole, and the witness is no place to forward to."""

from __future__ import annotations

import msgspec

from datacenters import sites

SETTING = """{
 "rabat": {"datacenter_url": "http://r:1/", "accounts_dsn": "postgresql://x", "private_url": "http://r:2",
           "name": {"ar": "الرباط", "fr": "Rabat"}},
 "marrakech": {"datacenter_url": "http://m:1"},
 "witness": {}
}"""

READ = msgspec.json.decode(SETTING, type=dict[str, sites.Site])


def test_addresses_and_names_are_read_and_other_fields_passed_over() -> None:
    assert READ["rabat"].private_url == "http://r:2"
    name = READ["rabat"].name
    assert name is not None
    assert name.ar == "الرباط"


def test_the_witness_has_no_datacenter_and_urls_no_trailing_slash() -> None:
    assert sites.with_datacenter(READ) == {"rabat": "http://r:1", "marrakech": "http://m:1"}
