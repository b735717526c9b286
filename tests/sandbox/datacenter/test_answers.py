from __future__ import annotations

import pytest

from sandbox.datacenter import answers
from sandbox.datacenter.standing import Standing

STANDING = Standing(
    in_recovery=False, timeline=1, lsn=50331976, epoch=7, fence_site="rabat", heard_age_s=0.1,
    receipt_age_s=None, lag_s=None, data_age_s=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("offered", "same"),
    [
        (None, False),
        ("*", True),
        ('"x"', False),
        ("{tag}", True),
        ("W/{tag}", True),
        ('"x" , {tag}', True),
        ("", False),
    ],
)
def test_a_known_entity_tag_matches(offered: str | None, *, same: bool) -> None:
    tag = answers.etag(b"body")
    assert answers.matches(offered and offered.replace("{tag}", tag), tag) is same


def test_entity_tags_tell_bodies_apart() -> None:
    assert answers.etag(b"body") == answers.etag(b"body") != answers.etag(b"body ")


def test_a_time_is_written_as_http_does() -> None:
    assert answers.http_date("2026-11-18T07:30:00Z") == "Wed, 18 Nov 2026 07:30:00 GMT"


def test_only_a_standby_says_how_old_its_data_may_be() -> None:
    said = answers.standing_headers(epoch=9, standing=STANDING)
    assert said == {"Massar-Epoch": "9", "Massar-Position": "1-50331976"}
    standby = Standing(
        **{
            **{name: getattr(STANDING, name) for name in STANDING.__struct_fields__},
            "in_recovery": True,
            "data_age_s": 0.26,
        }
    )
    assert answers.standing_headers(epoch=9, standing=standby)["Massar-Data-Age"] == "0.3"
    assert answers.standing_headers(epoch=0, standing=None) == {"Massar-Epoch": "0"}
