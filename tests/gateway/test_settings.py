"""Settings: read once, and a wrong one is named."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from gateway.settings import Settings, SettingsError, address, read_settings, variable

SECRET = "postgresql://massar_accounts:hunter2@db/accounts"
SITES = {
    "rabat": {"datacenter_url": "http://d", "accounts_dsn": SECRET, "name": {"ar": "الرباط", "fr": "Rabat"}}
}
REQUIRED = {
    "MASSAR_SITE": "rabat",
    "MASSAR_SITES": json.dumps(SITES),
    "MASSAR_ETCD_URLS": "http://a:2379, http://b:2379,",
    "MASSAR_ACCESS_KEYS_DIR": "/keys/access",
    "MASSAR_ASSERTION_KEY_FILE": "/keys/gateway-rabat.pem",
    "MASSAR_NOTICE_KEYS_DIR": "/keys",
    "MASSAR_JOURNAL_KEY_FILE": "/keys/journal.key",
    "MASSAR_SEAL_KEY_FILE": "/keys/seal.key",
    "MASSAR_METRICS_DIR": "/metrics",
}


def test_the_required_ones_are_enough() -> None:
    settings = read_settings(REQUIRED)
    assert settings.etcd_urls == ("http://a:2379", "http://b:2379")
    assert settings.access_keys_dir == Path("/keys/access")
    assert settings.sites["rabat"].accounts_dsn == SECRET
    assert settings.show_cache_status is False
    assert settings.trusted_proxies == ()


def test_an_empty_variable_counts_as_absent() -> None:
    assert read_settings({**REQUIRED, "MASSAR_WORKERS": "", "MASSAR_VALKEY_URL": ""}).workers == 1


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("given", [None, ""])
def test_a_missing_one_is_named(name: str, given: str | None) -> None:
    environment = {key: value for key, value in REQUIRED.items() if key != name}
    if given is not None:
        environment[name] = given
    with pytest.raises(SettingsError, match=rf"^{name} is missing$"):
        read_settings(environment)


WRONG = {
    "SITE": ["marrakech"],
    "SITES": [
        "{",
        "[]",
        "{}",
        '{"rabat":{}}',
        '{"rabat":7}',
        '{"rabat":{"datacenter":"http://d"}}',
        '{"rabat":{"name":{"ar":"x"}}}',
    ],
    "ETCD_URLS": [",", " , "],
    "LISTEN": ["8000", "localhost", "localhost:http", "localhost:", "local host:80", "127.0.0.1:65536"],
    "PRIVATE_LISTEN": ["8001", "127.0.0.1:99999"],
    "WORKERS": ["0", "65", "two", "1.5", "-1", "1e9"],
    "PROBLEM_BASE_URL": ["https://massar.example/problems"],
    "SHOW_CACHE_STATUS": ["perhaps", "2"],
    "DIE_WITH_PARENT": ["yes!"],
    "RATE_PER_S": ["0", "fast"],
    "RATE_BURST": ["0"],
    "BODY_BYTES_MAX": ["1023", "8388609", "64k"],
    "BODY_WAIT_S": ["0", "61", "nan", "inf", "soon"],
    "HEADER_BYTES_MAX": ["1", "70000"],
    "TARGET_BYTES_MAX": ["255", "16385"],
    "IN_FLIGHT_MAX": ["0"],
    "RECEIVING_MAX": ["0"],
    "MEMORY_BYTES_MAX": ["1048575"],
    "SCHOOL_SITES_HOST": ["ecoles.example", "http://ecoles.example", "a b"],
    "SCHOOL_SITES_BYTES_MAX": ["1048575"],
    "TOKEN_MEMO_MAX": ["0"],
    "SIGN_INS_MAX": ["0", "65"],
    "SIGN_INS_WAITING_MAX": ["0"],
    "DENIAL_SILENCE_MAX_S": ["0.5", "nan"],
    "DRAIN_S": ["-1", "61"],
    "STOP_S": ["0", "121", "0.5"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_one_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^MASSAR_{name}") as refused:
        read_settings({**REQUIRED, f"MASSAR_{name}": value})
    assert SECRET not in str(refused.value)


def test_every_bounded_setting_is_tried_above() -> None:
    free = {"valkey_url", "issuer", "trusted_proxies", "school_sites_valkey_url"}
    tried = {name.lower() for name in WRONG} | free
    paths = {
        field.name for field in msgspec.structs.fields(Settings) if field.name.endswith(("_dir", "_file"))
    }
    assert {field.name for field in msgspec.structs.fields(Settings)} == tried | paths


def test_a_wrong_dsn_is_named_without_being_shown() -> None:
    sites = {"rabat": {**SITES["rabat"], "accounts_dsn": [SECRET]}}
    with pytest.raises(SettingsError, match=r"^MASSAR_SITES") as refused:
        read_settings({**REQUIRED, "MASSAR_SITES": json.dumps(sites)})
    assert "hunter2" not in str(refused.value)


def test_no_repr_shows_a_secret() -> None:
    assert "hunter2" not in repr(read_settings(REQUIRED))


def test_every_field_has_its_variable() -> None:
    assert variable("rate_per_s") == "MASSAR_RATE_PER_S"


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:80", ("::1", 80)),
        ("gateway.example:443", ("gateway.example", 443)),
    ],
)
def test_an_address_is_host_and_port(listen: str, expected: tuple[str, int]) -> None:
    assert address(listen) == expected
