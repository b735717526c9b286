"""The engine beside hishel, another pure RFC 9111 machine: where they part, a listed reason says whom the RFC supports.

Both see one response to one request, perhaps a validation of it, then a later request for the same target: is the
response stored, and is the later request served, validated or forwarded? Each reason tells hishel what it does not
read, and with all of them it must come to the engine's very verdict.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.cache.http.building import TARGET, date, request, response
from tests.conformance.partings import PARTINGS, bridged, plainly
from tests.conformance.scenes import LONG_AGO, SCENES, Scene, ours, scene, validated
from tests.conformance.shown import theirs

EXAMPLES: dict[str, Scene] = {
    "no answer that may not be kept updates what is": scene(
        told=response(cache_control="max-age=60", etag='"a"'),
        validation=validated(request(cache_control="no-cache, no-store"), 60),
    ),
    "what is said of all stands though it is said again of some fields": scene(
        told=response(cache_control='private, private="x", max-age=60')
    ),
    "must-understand stands above no-store": scene(
        told=response(cache_control="must-understand, no-store, max-age=60")
    ),
    "must-understand keeps out what is not understood": scene(
        told=response(599, cache_control="must-understand, max-age=60")
    ),
    "what may be stored no more is validated before its use": scene(
        told=response(cache_control="max-age=60", etag='"a"'),
        validation=validated(cache_control="no-store, max-age=60"),
    ),
    "a request's no-store is obeyed": scene(request(cache_control="no-store")),
    "who wants only what is stored has nothing stored for him": scene(
        request(cache_control="only-if-cached")
    ),
    "no answer to a HEAD is stored": scene(request("HEAD")),
    "an answer to a POST is stored for a GET": scene(
        request("POST"), response(cache_control="max-age=60", content_location=TARGET)
    ),
    "an answer to one request's conditions is not stored": scene(
        told=response(412, cache_control="max-age=60")
    ),
    "what no request can select is not stored": scene(told=response(cache_control="max-age=60", vary="*")),
    "of two lifetimes neither is believed": scene(told=response(cache_control="max-age=0, max-age=60")),
    "without a date that is one its time in the store counts": scene(
        told=response(cache_control="max-age=60", date="yesterday"), after_s=60
    ),
    "nothing is guessed of a status that has to say for how long": scene(
        told=response(302, cache_control="max-age=60", last_modified=date(-1000)),
        validation=validated(cache_control="immutable"),
    ),
    "a lifetime is guessed from its date and not from each later time": scene(
        told=response(last_modified=date(-1000)), after_s=105
    ),
    "no guess is longer than a day": scene(told=response(last_modified=LONG_AGO), after_s=100_000),
    "a date in the future does not make it younger than its time in the store": scene(
        told=response(cache_control="max-age=60", date=date(3600)), after_s=60
    ),
    "the age it tells counts": scene(told=response(cache_control="max-age=60", age="60")),
    "pragma counts where cache-control is silent": scene(later=request(pragma="no-cache")),
    "what is older than the client wants is validated": scene(
        after_s=31, later=request(cache_control="max-age=30")
    ),
    "what is not fresh for as long as the client wants is validated": scene(
        later=request(cache_control="min-fresh=61")
    ),
    "stale is served for as long as the origin allows it": scene(
        told=response(cache_control="max-age=1, stale-while-revalidate=60"), after_s=61
    ),
    "stale is served for as long as the client tolerates it": scene(
        after_s=90, later=request(cache_control="max-stale=30")
    ),
    "a HEAD is answered from a stored GET": scene(later=request("HEAD")),
    "a range is answered from what is stored": scene(later=request(range="bytes=0-1")),
    "a part is stored, and never stands for the whole": scene(
        told=response(206, cache_control="max-age=60", content_range="bytes 0-4/10")
    ),
    "no variant is validated by another's date, nor where its body could not be kept": scene(
        request(foo="1"),
        response(cache_control="max-age=60", vary="Foo", last_modified=date(-100)),
        0,
        request(foo="2"),
    ),
    "who wants only what is stored is refused what is not": scene(
        after_s=60, later=request(cache_control="only-if-cached")
    ),
    "a condition that the origin alone can judge goes to it": scene(later=request(if_match='"a"')),
}


# Just beyond the reach of a reason, where hishel needs none to come to the engine's verdict.
BEYOND: dict[str, Scene] = {
    "an age below its lifetime": scene(told=response(cache_control="max-age=60", age="59")),
    "the age before a validation": scene(
        told=response(cache_control="max-age=60", etag='"a"', age="60"), validation=validated()
    ),
    "two lifetimes, one of them for shared caches": scene(
        told=response(cache_control="max-age=60, s-maxage=1"), after_s=30
    ),
    "as old as the client wants": scene(after_s=30, later=request(cache_control="max-age=30")),
    "fresh for as long as the client wants": scene(after_s=30, later=request(cache_control="min-fresh=30")),
    "stale for longer than the origin allows": scene(
        told=response(cache_control="max-age=1, stale-while-revalidate=60"), after_s=62
    ),
    "stale for longer than the client tolerates": scene(
        after_s=91, later=request(cache_control="max-stale=30")
    ),
    "tolerated by the client, not by the origin": scene(
        told=response(cache_control="max-age=60, must-revalidate"),
        after_s=60,
        later=request(cache_control="max-stale"),
    ),
    "allowed by the origin, and not": scene(
        told=response(cache_control="max-age=1, stale-while-revalidate=60, must-revalidate"), after_s=30
    ),
    "a guess that is not over yet": scene(told=response(last_modified=date(-1000)), after_s=99),
    "a day that is not over yet": scene(told=response(last_modified=LONG_AGO), after_s=86_399),
    "pragma beside cache-control": scene(later=request(pragma="no-cache", cache_control="max-age=60")),
    "a range of what is not stored": scene(
        told=response(cache_control="no-store"), later=request(range="bytes=0-1")
    ),
}


@pytest.mark.parametrize("name", PARTINGS)
def test_each_reason_has_an_example_for_which_it_is_the_only_one(name: str) -> None:
    example = EXAMPLES[name]
    assert ours(example) != theirs(plainly(example))
    assert bridged(example) == (ours(example), [name])


@pytest.mark.parametrize("name", BEYOND)
def test_no_reason_reaches_beyond_its_border(name: str) -> None:
    beyond = BEYOND[name]
    assert ours(beyond) == theirs(plainly(beyond)) == bridged(beyond)[0]


@settings(max_examples=450)
@given(SCENES)
def test_the_machines_part_only_for_a_listed_reason_and_only_as_far_as_it_reaches(drawn: Scene) -> None:
    if drawn.before is not None:
        assert ours(drawn.before) == bridged(drawn.before)[0]
    assert ours(drawn) == bridged(drawn)[0]
