"""What a datacenter says of an answer's version and date, taken over only where it is what HTTP has for that.

Invariant: nothing of an origin's field goes out, to a phone or back to a datacenter, that is not of this form.
"""

from __future__ import annotations

import functools

from cache.http.fields import entity_tags, http_date, rendered_date
from cache.policy import DAY_S

ENTITY_TAG_CHARS_MAX = 128
# The longest form names a Wednesday: "Wednesday, 06-Nov-94 08:49:37 GMT".
DATE_CHARS_MAX = 33
DATES_MAX = 1024


def entity_tag(text: str | None) -> str | None:
    """The tag if it is one, in ASCII and of bounded length. Source: RFC 9110 §8.8.3."""
    if text is None or len(text) > ENTITY_TAG_CHARS_MAX or not text.isascii():
        return None
    return text if entity_tags(text) == (text,) and text != "*" else None


def date(text: str | None, now: float) -> str | None:
    """The date in the form that is to be sent, from any of its three. Source: RFC 9110 §5.6.7."""
    if text is None or len(text) > DATE_CHARS_MAX or not text.isascii():
        return None
    return _rendered(text, now // DAY_S)


@functools.lru_cache(DATES_MAX)  # many answers change at the same instant, and one is fetched many times
def _rendered(text: str, day: float) -> str | None:
    unix_s = http_date(text, day * DAY_S)
    try:
        return None if unix_s is None else rendered_date(unix_s)
    except (ValueError, OverflowError):  # a leap second at the end of the last year there is
        return None
