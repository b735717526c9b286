"""Where hishel parts from the engine: what it does not read, told in words that it does read.

Invariant: a parting changes what hishel is shown, or what its verdict comes to, only as far as the named section
reaches; whether a response is stored, selected and fresh is then hishel's to judge. So whoever disagrees with the
outcome disagrees with hishel or with a section, and a reason that applies to a scene excuses nothing else in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from hishel._core import _spec

from cache.http.messages import Request, Response
from cache.http.storing import UNDERSTOOD
from tests.cache.building import NOW
from tests.cache.http.building import TARGET
from tests.conformance.scenes import PART, WHOLE, Scene, Verdict
from tests.conformance.shown import LIFETIMES, SECONDS_MAX, Shown, directives, finds, keeps, seconds, updated

READING = {"GET", "HEAD"}
DAY_S = 86_400
GUESSED = set(_spec.HEURISTICALLY_CACHEABLE_STATUS_CODES)
HELD_BACK_BUT = {"must-revalidate", "public", "s-maxage"}
NEVER_STALE = {"must-revalidate", "no-cache", "proxy-revalidate", "s-maxage"}
LAST_BYTES = {"bytes=0-1": 1, "bytes=3-5": 5, "bytes=99-": 99}


def plainly(one: Scene) -> Shown:
    """The scene as it is; what a 304 makes of a stored response is for hishel to say."""
    at = one.told_at + one.after_s
    if one.before is None or bridged(one.before)[0] != Verdict.VALIDATED:
        return Shown(one.first, one.told, NOW, one.later, at)
    told = updated(one.told, one.first, one.before.later, one.not_modified)
    return Shown(one.first, told, one.told_at, one.later, at, one.validation, one.told)


def bridged(one: Scene) -> tuple[Verdict, list[str]]:
    """hishel's verdict, with all readings that it lacks; and the partings that change anything."""
    plain = plainly(one)
    told, said = _read(plain, OF_STORING)
    if not keeps(told):
        return Verdict.NOT_STORED, said
    shown, more = _read(told, OF_USING)
    verdict, turning = finds(shown), []
    for name, parting in PARTINGS.items():
        turned = parting.turns(plain, verdict)
        turning += [name] if turned != verdict else []
        verdict = turned
    return verdict, list(dict.fromkeys((*said, *more, *turning)))


def _read(one: Shown, by: Mapping[str, Parting]) -> tuple[Shown, list[str]]:
    said = []
    for name, parting in by.items():
        read = parting.reads(one)
        said += [name] if read != one else []
        one = read
    return one, said


def _same(one: Shown) -> Shown:
    return one


def _kept(_: Shown, verdict: Verdict) -> Verdict:
    return verdict


class Parting(msgspec.Struct, frozen=True):
    """A section, whom it supports, and what hishel makes of it by `reads`, or its verdict comes to by `turns`."""

    section: str
    supports: str
    reads: Callable[[Shown], Shown] = _same
    turns: Callable[[Shown, Verdict], Verdict] = _kept


def _forbidden(where: Callable[[Shown], bool]) -> Callable[[Shown], Shown]:
    """It reads as if the response forbade to store it."""
    return lambda one: one.saying("no-store") if where(one) and "no-store" not in one.said else one


def _said_of_all(one: Shown) -> Shown:
    both = [name for name in ("private", "no-cache") if len(set(one.said.get(name, ()))) > 1]
    bare = [name for name in both if "" in one.said[name]]
    return one.saying(*bare, without=bare) if bare else one


def _not_updated(one: Shown) -> Shown:
    if one.updated is None or one.before is None:
        return one
    asked = one.updated.asked.fields
    withheld = "authorization" in asked and not HELD_BACK_BUT & one.said.keys()
    if not withheld and "no-store" not in directives(asked):
        return one
    return Shown(one.first, one.before, NOW, one.later, one.at)


def _understood(one: Shown) -> Shown:
    understood = "must-understand" in one.said and one.told.status in UNDERSTOOD
    return one.saying(without={"no-store"}) if understood else one


def _stored_no_more(one: Shown) -> Shown:
    private = "" in one.said.get("private", ())
    if one.updated is None or ("no-store" not in one.said and not private):
        return one
    return one.saying("no-cache", without={"no-store", "private"})


def _refused_at_first(one: Shown) -> bool:
    return one.first.method in READING and "only-if-cached" in directives(one.first.fields)


def _posted(one: Shown) -> Shown:
    here = one.told.fields.get("content-location") == TARGET and one.explicit
    if one.first.method != "POST" or not (here or one.updated):
        return one
    return msgspec.structs.replace(one, first=Request("GET", TARGET, one.first.fields))


def _whole(one: Shown) -> Shown:
    if one.told.status != 206 or one.told.fields.get("content-range") != "bytes 0-4/10":
        return one
    return msgspec.structs.replace(one, told=Response(200, one.told.fields))


def _last_byte(one: Shown) -> int | None:
    # Only a GET has ranges (RFC 9110 §14.2), and only content that was asked for has parts.
    ranged = one.later.method == "GET" and one.told.status in {200, 206}
    return LAST_BYTES.get(one.later.fields.get("range") or "") if ranged else None


def _of_a_part(one: Shown, verdict: Verdict) -> Verdict:
    if one.told.status != 206 or verdict not in {Verdict.SERVED, Verdict.VALIDATED}:
        return verdict
    last = _last_byte(one)
    enough = verdict == Verdict.SERVED and last is not None and last < PART
    return verdict if enough else Verdict.FORWARDED  # no 304 could speak of the whole


def _doubly(one: Shown) -> Shown:
    two = [name for name in LIFETIMES if len(set(one.said.get(name, ()))) > 1]
    return one.saying(*(f"{name}=0" for name in two), without=two) if two else one


def _of_now(one: Shown) -> Shown:
    return one.made(one.told_at) if one.made_at is None else one


def _guessable(one: Shown) -> bool:
    return one.guessed and (one.told.status in GUESSED or "public" in one.said)


def _not_guessed(one: Shown) -> Shown:
    return one.saying("max-age=0") if one.guessed and not _guessable(one) else one


def _tenth(one: Shown) -> Shown:
    return one.saying(f"max-age={one.tenth_s}") if _guessable(one) and one.tenth_s <= DAY_S else one


def _day(one: Shown) -> Shown:
    return one.saying(f"max-age={DAY_S}") if _guessable(one) and one.tenth_s > DAY_S else one


def _no_younger(one: Shown) -> Shown:
    return one.made(one.told_at) if (one.made_at or 0) > one.told_at else one


def _aged(one: Shown) -> Shown:
    of = one.updated.said if one.updated else one.told.fields  # what was told before a validation is over
    made_at = int(one.told_at) - int(of.get("age") or 0)
    return one.made(made_at) if made_at < (one.made_at or 0) else one


def _silent(one: Shown) -> Shown:
    return one.asking("no-cache") if "pragma" in one.later.fields and not one.asked else one


def _too_old(one: Shown) -> Shown:
    most = seconds(one.asked, "max-age")
    return one.asking("no-cache") if most is not None and one.age_s > most else one


def _too_near_its_end(one: Shown) -> Shown:
    if "min-fresh" not in one.asked:
        return one
    wished = set(one.asked["min-fresh"])
    unreadable = len(wished) != 1 or wished == {""}
    return one.asking("no-cache") if unreadable or one.left_s < int(wished.pop()) else one


def _within(one: Shown, window_s: int) -> Shown:
    """It reads as if it were fresh where it is stale for no longer than the window."""
    stale = one.left_s <= 0 and not NEVER_STALE & one.said.keys()
    if stale and window_s > 0 and -one.left_s <= window_s:
        return one.saying(f"max-age={one.age_s + 1}", without=LIFETIMES)
    return one


def _meanwhile(one: Shown) -> Shown:
    return _within(one, seconds(one.said, "stale-while-revalidate") or 0)


def _tolerated(one: Shown) -> Shown:
    anything = one.asked.get("max-stale") == [""]
    return _within(one, SECONDS_MAX if anything else seconds(one.asked, "max-stale") or 0)


def _head(one: Shown) -> Shown:
    if one.later.method != "HEAD":
        return one
    return msgspec.structs.replace(one, later=Request("GET", TARGET, one.later.fields))


def _unranged(one: Shown) -> Shown:
    fields = one.later.fields.without({"range"})
    return msgspec.structs.replace(one, later=Request(one.later.method, TARGET, fields))


def _in_part(one: Shown, verdict: Verdict) -> Verdict:
    last = _last_byte(one)
    if verdict != Verdict.SERVED or last is None:
        return verdict
    return Verdict.SERVED_IN_PART if last < WHOLE else Verdict.OUT_OF_RANGE


def _of_another_variant(one: Shown, verdict: Verdict) -> Verdict:
    missed = "vary" in one.told.fields and one.first.fields.get("foo") != one.later.fields.get("foo")
    if verdict != Verdict.VALIDATED or not missed:
        return verdict
    kept = one.later.method == "GET" and "range" not in one.later.fields and "no-store" not in one.asked
    return verdict if kept and "etag" in one.told.fields else Verdict.FORWARDED


def _only_if_cached(one: Shown, verdict: Verdict) -> Verdict:
    asks = verdict in {Verdict.VALIDATED, Verdict.FORWARDED} and one.later.method in READING
    return Verdict.REFUSED if asks and "only-if-cached" in one.asked else verdict


def _for_the_origin(one: Shown, verdict: Verdict) -> Verdict:
    judged = verdict != Verdict.NOT_STORED and "if-match" in one.later.fields
    return Verdict.FORWARDED if judged else verdict


# Of both, one reading builds on those before it.
OF_STORING: dict[str, Parting] = {
    "no answer that may not be kept updates what is": Parting(
        "RFC 9111 §3.5, §5.2.1.5", "ours", _not_updated
    ),
    "what is said of all stands though it is said again of some fields": Parting(
        "RFC 9111 §5.2.2.4, §5.2.2.7", "ours", _said_of_all
    ),
    "must-understand stands above no-store": Parting("RFC 9111 §5.2.2.3", "ours", _understood),
    "must-understand keeps out what is not understood": Parting(
        "RFC 9111 §5.2.2.3",
        "ours",
        _forbidden(lambda one: "must-understand" in one.said and one.told.status not in UNDERSTOOD),
    ),
    "what may be stored no more is validated before its use": Parting(
        "RFC 9111 §5.2.2.5, §5.2.2.7", "ours", _stored_no_more
    ),
    "a request's no-store is obeyed": Parting(
        "RFC 9111 §5.2.1.5", "ours", _forbidden(lambda one: "no-store" in directives(one.first.fields))
    ),
    "who wants only what is stored has nothing stored for him": Parting(
        "RFC 9111 §5.2.1.7", "ours", _forbidden(_refused_at_first)
    ),
    "no answer to a HEAD is stored": Parting(
        "RFC 9110 §9.3.2", "either", _forbidden(lambda one: one.first.method == "HEAD")
    ),
    "an answer to a POST is stored for a GET": Parting("RFC 9110 §9.3.3", "either", _posted),
    "an answer to one request's conditions is not stored": Parting(
        "RFC 9110 §13.2, §14.2", "ours", _forbidden(lambda one: one.told.status in {412, 416})
    ),
    "what no request can select is not stored": Parting(
        "RFC 9111 §4.1", "either", _forbidden(lambda one: one.told.fields.get("vary") == "*")
    ),
    "a part is stored, and never stands for the whole": Parting(
        "RFC 9111 §3.3", "either", _whole, _of_a_part
    ),
}
OF_USING: dict[str, Parting] = {
    "of two lifetimes neither is believed": Parting("RFC 9111 §4.2.1", "ours", _doubly),
    "without a date that is one its time in the store counts": Parting(
        "RFC 9111 §4.2.3, RFC 9110 §6.6.1", "ours", _of_now
    ),
    "nothing is guessed of a status that has to say for how long": Parting(
        "RFC 9111 §4.2.2, RFC 9110 §15.1", "ours", _not_guessed
    ),
    "a lifetime is guessed from its date and not from each later time": Parting(
        "RFC 9111 §4.2.2", "either", _tenth
    ),
    "no guess is longer than a day": Parting("RFC 9111 §4.2.2", "either", _day),
    "a date in the future does not make it younger than its time in the store": Parting(
        "RFC 9111 §4.2.3", "ours", _no_younger
    ),
    "the age it tells counts": Parting("RFC 9111 §4.2.3", "ours", _aged),
    "pragma counts where cache-control is silent": Parting("RFC 9111 §5.4", "either", _silent),
    "what is older than the client wants is validated": Parting("RFC 9111 §5.2.1.1", "ours", _too_old),
    "what is not fresh for as long as the client wants is validated": Parting(
        "RFC 9111 §5.2.1.3", "ours", _too_near_its_end
    ),
    "stale is served for as long as the origin allows it": Parting("RFC 5861 §3", "either", _meanwhile),
    "stale is served for as long as the client tolerates it": Parting(
        "RFC 9111 §4.2.4, §5.2.1.2", "either", _tolerated
    ),
    "a HEAD is answered from a stored GET": Parting("RFC 9111 §4", "either", _head),
    "a range is answered from what is stored": Parting("RFC 9111 §3.3", "either", _unranged, _in_part),
    "no variant is validated by another's date, nor where its body could not be kept": Parting(
        "RFC 9111 §4.1, §4.3.4", "ours", turns=_of_another_variant
    ),
    "who wants only what is stored is refused what is not": Parting(
        "RFC 9111 §5.2.1.7", "ours", turns=_only_if_cached
    ),
    "a condition that the origin alone can judge goes to it": Parting(
        "RFC 9110 §13.1.1", "either", turns=_for_the_origin
    ),
}
PARTINGS = OF_STORING | OF_USING
