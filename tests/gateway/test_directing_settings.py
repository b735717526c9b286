"""A director's settings: each named when it is wrong or missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenters.sites import Site
from gateway.cli import main
from gateway.directing_settings import DirectorSettings, OwnGround, read_director_settings
from tests.datacenters.typing_in import invoke

SITES = '{"rabat":{"datacenter_url":"http://r"},"witness":{}}'
WITNESS = {"MASSAR_SITE": "witness", "MASSAR_SITES": SITES, "MASSAR_ETCD_URLS": "http://e,http://f"}
RABAT = {
    **WITNESS,
    "MASSAR_SITE": "rabat",
    "MASSAR_DIRECTOR_DSN": "postgresql://u:secret@h/records",
    "MASSAR_DIRECTOR_ACCOUNTS_DSN": "postgresql://u:secret@h/accounts",
    "MASSAR_DIRECTOR_KEY_FILE": "/keys/director-rabat.pem",
    "MASSAR_JOURNAL_KEY_FILE": "/keys/journal.key",
}


def test_a_site_with_a_datacenter_is_told_all_that_a_take_over_needs() -> None:
    settings = read_director_settings(RABAT)
    assert (settings.site, settings.etcd_urls) == ("rabat", ("http://e", "http://f"))
    assert settings.sites == {"rabat": Site(datacenter_url="http://r"), "witness": Site()}
    assert settings.ground == OwnGround(
        records_dsn=RABAT["MASSAR_DIRECTOR_DSN"],
        accounts_dsn=RABAT["MASSAR_DIRECTOR_ACCOUNTS_DSN"],
        key_file=Path("/keys/director-rabat.pem"),
        journal_key_file=Path("/keys/journal.key"),
    )


def test_the_witness_needs_neither_database_nor_key() -> None:
    assert read_director_settings(WITNESS).ground is None


@pytest.mark.parametrize("missing", sorted(RABAT))
async def test_a_missing_setting_stops_the_director_and_is_named(missing: str) -> None:
    refused = await invoke(main, "director", **{**RABAT, missing: ""})
    assert refused.exit_code == 1
    assert refused.output.startswith(f"Error: {missing} is missing")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"MASSAR_SITES": "{"}, "MASSAR_SITES is not JSON"),
        ({"MASSAR_SITES": "[]"}, "MASSAR_SITES is wrong: "),
        ({"MASSAR_SITES": '{"rabat":{}}'}, "MASSAR_SITES: no site has a datacenter_url"),
        ({"MASSAR_SITE": "witness"}, "MASSAR_DIRECTOR_DSN: MASSAR_SITES names no datacenter at this site"),
        ({"MASSAR_REJOIN_COMMAND": "rejoin"}, "MASSAR_REJOIN_COMMAND: not without MASSAR_QUARANTINE_DIR"),
        ({"MASSAR_DIRECTOR_KEY_FILE": "/nowhere/key.pem"}, "MASSAR_DIRECTOR_KEY_FILE: "),
    ],
)
async def test_a_wrong_setting_stops_the_director_and_is_named(changes: dict[str, str], named: str) -> None:
    refused = await invoke(main, "director", **{**RABAT, **changes})
    assert refused.exit_code == 1
    assert refused.output.startswith(f"Error: {named}")
    assert "secret" not in refused.output


def test_settings_do_not_show_their_passwords() -> None:
    shown = repr(read_director_settings(RABAT))
    assert "secret" not in shown
    assert isinstance(read_director_settings(RABAT), DirectorSettings)
