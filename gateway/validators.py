"""What a datacenter says of an answer's version and date, taken over only where it is what HTTP has for that.

Invariant: nothing of an origin's field goes out, to a phone or back to a datacenter, that is not of this form.
"""

from __future__ import annotations

from cache.http.fields import entity_tags, http_date, rendered_date

ENTITY_TAG_CHARS_MAX = 128


def entity_tag(text: str | None) -> str | None:
    """The tag if it is one, in ASCII and of bounded length. Source: RFC 9110 §8.8.3."""
    if text is None or len(text) > ENTITY_TAG_CHARS_MAX or not text.isascii():
        return None
    return text if entity_tags(text) == (text,) and text != "*" else None


def date(text: str | None, now: float) -> str | None:
    """The date in the form that is to be sent, from any of its three. Source: RFC 9110 §5.6.7."""
    unix_s = http_date(text, now) if text is not None and text.isascii() else None
    return None if unix_s is None else rendered_date(unix_s)
