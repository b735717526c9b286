from __future__ import annotations

import json

import pytest

from sandbox.datacenter.logs import json_log


def test_a_line_is_json_and_names_its_site(capsys: pytest.CaptureFixture[str]) -> None:
    json_log(site="rabat").info("answered", route="/v1/calendar", status=200)
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["event"], said["site"], said["part"], said["status"], said["level"]) == (
        "answered", "rabat", "datacenter", 200, "info",
    )  # fmt: skip


def test_what_is_below_info_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    json_log(site="rabat").debug("noise")
    assert capsys.readouterr().out == ""
