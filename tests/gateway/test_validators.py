"""Of what an origin says of version and date, only what HTTP has for that is taken over."""

from __future__ import annotations

import pytest

from gateway.validators import ENTITY_TAG_CHARS_MAX, date, entity_tag

NOW = 1_794_000_000.0
FULL = '"' + "x" * (ENTITY_TAG_CHARS_MAX - 2) + '"'


@pytest.mark.parametrize("text", ['"v1"', 'W/"v1"', '""', '"*"', '"a,b!~"', FULL])
def test_a_tag_is_kept_as_it_is_written(text: str) -> None:
    assert entity_tag(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            None,
            "",
            "*",
            "v1",
            '"v1',
            'v1"',
            "'v1'",
            'w/"v1"',
            'W/ "v1"',
            '"a"b"',
            '"a b"',
            '"a\tb"',
            '"a\x00b"',
        ),
        *('"a", "b"', '"a"\r\nx-a: b', ' "a"', '"é"', '"\x7f"', FULL[:-1] + 'x"', '"' * 100_000),
    ],
)
def test_what_is_no_tag_or_too_long_is_dropped(text: str | None) -> None:
    assert entity_tag(text) is None


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_a_date_is_passed_on_in_the_form_that_is_to_be_sent(text: str) -> None:
    assert date(text, NOW) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "0", "yesterday", "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37", "Sun, 31 Feb 1994 08:49:37 GMT"),
        *("Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 +0100"),
        "Fri, 31 Dec 9999 23:59:60 GMT",
        *("Sun, 06 Nov 1994 08:49:37 GMT\r\nx-a: b", "Sun, 06 Nov ١٩٩٤ 08:49:37 GMT", "x" * 100_000),
    ],
)  # fmt: skip
def test_what_is_no_date_is_dropped(text: str | None) -> None:
    assert date(text, NOW) is None
