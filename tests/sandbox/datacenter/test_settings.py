from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.datacenter.settings import SettingWrong, from_environment


def environment(folder: Path, **changed: str) -> dict[str, str]:
    told = {
        "SITE": "rabat",
        "RECORDS_DSN": "postgresql://user:secret-word@127.0.0.1:5432/records",
        "ASSERTION_KEYS": str(folder),
        "NOTICE_KEY": str(folder),
        "NOTICE_URLS": "http://127.0.0.1:1/, http://127.0.0.1:2",
    }
    return {f"MASSAR_DATACENTER_{name}": value for name, value in {**told, **changed}.items()}


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    settings = from_environment(environment(tmp_path))
    assert (settings.site, settings.notice_urls) == ("rabat", ("http://127.0.0.1:1", "http://127.0.0.1:2"))
    assert settings.body_bytes_max == 256 * 1024


def test_a_password_does_not_show_in_a_repr(tmp_path: Path) -> None:
    assert "secret-word" not in repr(from_environment(environment(tmp_path)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SITE", ""),
        ("RECORDS_DSN", " "),
        ("ASSERTION_KEYS", "/nowhere"),
        ("NOTICE_KEY", "/nowhere"),
        ("NOTICE_URLS", "ftp://x"),
        ("NOTICE_URLS", ",".join(["http://x"] * 17)),
    ],
)
def test_a_wrong_value_names_its_variable(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingWrong, match=f"MASSAR_DATACENTER_{name}"):
        from_environment(environment(tmp_path, **{name: value}))
