"""Verdicts on rows."""

from __future__ import annotations

import msgspec
import pytest

from routes.endpoint import Written
from routes.verdicts import RawVerdicts, attendance_verdicts, entry_verdicts, verdict_response

BASE = "https://massar.example/problems/"
RAW = msgspec.json.decode(
    b'{"results":[{"pupil_id":"a","number":2,"status":"accepted","version":1},'
    b'{"pupil_id":"b","number":1,"status":"rejected","slug":"pupil-dispensed","current":0}]}',
    type=RawVerdicts,
)


@pytest.mark.parametrize(("language", "title"), [("fr", "Élève dispensé"), ("en", "Pupil dispensed")])
def test_rows_keep_their_order_and_only_the_rejected_carry_a_problem(language: str, title: str) -> None:
    accepted, rejected = msgspec.to_builtins(entry_verdicts(RAW, language=language, base_url=BASE))["results"]
    assert accepted == {"pupil_id": "a", "number": 2, "status": "accepted", "version": 1}
    assert {**rejected, "problem": rejected["problem"]["title"]} == {
        "pupil_id": "b",
        "number": 1,
        "status": "rejected",
        "problem": title,
        "current": 0,
    }


def test_attendance_has_no_numbers() -> None:
    accepted, rejected = msgspec.to_builtins(attendance_verdicts(RAW, language="fr", base_url=BASE))[
        "results"
    ]
    assert accepted == {"pupil_id": "a", "status": "accepted"}
    assert set(rejected) == {"pupil_id", "status", "problem"}


@pytest.mark.parametrize("replayed", [False, True])
def test_verdicts_are_kept_by_nobody_and_tell_where_the_write_stands(*, replayed: bool) -> None:
    written = Written(status=200, body=b"", replayed=replayed, position="1-7")
    answer = verdict_response({"results": []}, written, language="ar")
    assert answer.content == b'{"results":[]}'
    expected = {
        "cache-control": "no-store",
        "content-language": "ar",
        "vary": "Accept-Language",
        "massar-position": "1-7",
    }
    assert answer.headers == {**expected, **({"massar-replayed": "1"} if replayed else {})}
