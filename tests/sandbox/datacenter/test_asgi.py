from __future__ import annotations

import subprocess
import sys

from sandbox.datacenter.settings import Settings
from tests.conformance.serving import ROOT


def started(environment: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment(settings: Settings) -> dict[str, str]:
    return {
        "MASSAR_DATACENTER_SITE": settings.site,
        "MASSAR_DATACENTER_RECORDS_DSN": str(settings.records_dsn),
        "MASSAR_DATACENTER_ASSERTION_KEYS": str(settings.assertion_keys_dir),
        "MASSAR_DATACENTER_NOTICE_KEY": str(settings.notice_key_file),
    }


def test_the_entry_point_builds_the_app_from_its_environment(settings: Settings) -> None:
    done = started(
        environment(settings), "from sandbox.datacenter.asgi import app; print(type(app).__name__)"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "Litestar"), done.stderr


def test_a_missing_setting_stops_the_start_and_is_named() -> None:
    done = started({"MASSAR_DATACENTER_SITE": "rabat"}, "import sandbox.datacenter.asgi")
    assert done.returncode != 0
    assert "MASSAR_DATACENTER_RECORDS_DSN" in done.stderr
