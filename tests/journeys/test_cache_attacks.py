"""Cache poisoning and cache deception against the cached reads, byte by byte at a real worker: each test names its attack.

Attacks that need no real socket are in tests/gateway/test_reading.py. Source: CWE-349, CWE-444, CWE-524.
"""

from __future__ import annotations

import msgspec
import pytest

from tests.gateway.people import CLASSMATE, OTHER_PARENT, PARENT, PUPIL, STRANGER, TEACHER
from tests.journeys.wayward import Heard, Standing, right

FAMILY = (PUPIL, PARENT, OTHER_PARENT)
ABSENCES = f"/v1/pupils/{PUPIL}/absences"
# One read, and the second one beside it where it is slow.
SENT_MAX = 2
EVIL = "evil.example"


@pytest.fixture(autouse=True)
async def known(standing: Standing) -> None:
    """The gateway knows who these people are and the calendar: only the read itself is cold."""
    for who in (*FAMILY, CLASSMATE, TEACHER):
        await standing.get(f"/v1/pupils/{PUPIL}/timetable", who)


def expected(day: str, view: str = "family") -> object:
    """What the datacenter says of that day to a view."""
    return msgspec.json.decode(right(f"{ABSENCES}?view={view}&from={day}"))


async def is_clean(standing: Standing, day: str) -> Heard:
    """What the next readers get is the right entry, fetched once for all of them, and theirs alone."""
    answers = [await standing.get(f"{ABSENCES}?from={day}", who) for who in FAMILY]
    for answer in answers:
        assert answer.status == 200
        assert msgspec.json.decode(answer.body) == expected(day)
        assert EVIL not in str(answer.headers)
    assert 1 <= standing.rabat.count(f"from={day}") <= SENT_MAX
    for who in (CLASSMATE, STRANGER):
        assert (await standing.get(f"{ABSENCES}?from={day}", who)).slug == "not-found"
    return answers[-1]


async def asked(standing: Standing, raw: bytes) -> Heard | None:
    """One request as its bytes are, on a connection of its own; None when it was hung up on."""
    async with standing.wire() as wire:
        return await wire.asked(raw)


# Spellings of a path: what is the same one once it is decoded, as HTTP has it, and what is not

SAME = {
    "an escaped letter": ABSENCES.replace("absences", "%61bsences"),
    "escapes in small letters": ABSENCES.replace("/pupils/pupila", "/pupils/pu%70il%61"),
    "an escaped slash": ABSENCES.replace("/absences", "%2Fabsences"),
    "every letter escaped": "/" + "".join(f"%{ord(letter):02X}" for letter in ABSENCES[1:]),
    "the form for proxies": f"http://{EVIL}{ABSENCES}",
}
OTHERS = {
    "capitals": ABSENCES.replace("absences", "Absences"),
    "capitals in the version": ABSENCES.replace("/v1/", "/V1/"),
    "capitals in the id": ABSENCES.replace(PUPIL, PUPIL.upper()),
    "a slash behind": f"{ABSENCES}/",
    "an escaped slash behind": f"{ABSENCES}%2f",
    "two slashes in front": f"/{ABSENCES}",
    "two slashes within": ABSENCES.replace("/absences", "//absences"),
    "two escaped slashes": ABSENCES.replace("/absences", "%2F%2Fabsences"),
    "a slash escaped twice": ABSENCES.replace("/absences", "%252Fabsences"),
    "a dot": ABSENCES.replace("/absences", "/./absences"),
    "an escaped dot": ABSENCES.replace("/absences", "/%2e/absences"),
    "two dots": f"/v1/pupils/{STRANGER}/../{PUPIL}/absences",
    "two escaped dots": f"/v1/pupils/{STRANGER}/%2e%2e/{PUPIL}/absences",
    "two dots and an escaped slash": f"/v1/pupils/{STRANGER}/..%2f{PUPIL}/absences",
    "a backslash": ABSENCES.replace("/absences", "\\absences"),
    "an escaped backslash": ABSENCES.replace("/absences", "%5Cabsences"),
    "a matrix parameter": f"{ABSENCES};jsessionid=1",
    "an escaped NUL": f"{ABSENCES}%00",
    "an escaped space": f"{ABSENCES}%20",
    "an escaped line break": f"{ABSENCES}%0d%0aset-cookie:%20evil=1",
    "an escaped question mark": f"{ABSENCES}%3Fview=teacher",
    "an escaped hash": f"{ABSENCES}%23",
    "a half escape": f"{ABSENCES}%2",
    "an escape of no number": f"{ABSENCES}%zz",
    "too long a form of a slash": ABSENCES.replace("/absences", "%c0%afabsences"),
    "digits of full width": ABSENCES.replace("/v1/", "/v%EF%BC%91/"),
    "bytes of no alphabet": f"{ABSENCES}%ff",
}
FILES = {
    "a stylesheet below": f"{ABSENCES}/style.css",
    "a stylesheet": f"{ABSENCES}.css",
    "a stylesheet behind an escaped slash": f"{ABSENCES}%2fstyle.css",
    "a stylesheet behind a semicolon": f"{ABSENCES};style.css",
    "a stylesheet behind an escaped semicolon": f"{ABSENCES}%3bstyle.css",
    "a stylesheet behind a NUL": f"{ABSENCES}%00.css",
    "a stylesheet behind a line break": f"{ABSENCES}%0a.css",
    "a stylesheet behind an escaped hash": f"{ABSENCES}%23.css",
    "a way back to a stylesheet": f"{ABSENCES}/..%2f..%2fstyle.css",
    "a way from a stylesheet": f"/static/..%2fv1/pupils/{PUPIL}/absences",
}


@pytest.mark.parametrize("name", SAME)
async def test_path_aliasing_a_spelling_of_the_same_path_is_the_same_entry_with_the_same_rights(
    standing: Standing, name: str, fresh_day: str
) -> None:
    target = f"{SAME[name]}?from={fresh_day}"
    for who, status, slug in ((None, 401, "token-missing"), (CLASSMATE, 404, "not-found")):
        refused = await asked(standing, standing.request(target, who))
        assert refused is not None
        assert (refused.status, refused.slug) == (status, slug)
    spelled = await asked(standing, standing.request(target, PARENT))
    clean = await is_clean(standing, fresh_day)
    assert spelled is not None
    assert (spelled.status, spelled.body) == (200, clean.body)
    warm = await asked(standing, standing.request(target, CLASSMATE))
    assert warm is not None
    assert warm.slug == "not-found"


@pytest.mark.parametrize("name", [*OTHERS, *FILES])
async def test_path_confusion_and_cache_deception_another_spelling_is_no_path_and_makes_no_entry(
    standing: Standing, name: str, fresh_day: str
) -> None:
    target = f"{({**OTHERS, **FILES})[name]}?from={fresh_day}"
    for _ in range(2):
        for who in (PARENT, CLASSMATE, None):
            answer = await asked(standing, standing.request(target, who))
            told = None if answer is None else (answer.status, answer.slug)
            assert told in {None, (404, "not-found"), (400, ""), None if who else (401, "token-missing")}
            assert answer is None or "hit" not in (answer.header("cache-status") or "")
        assert standing.rabat.count(f"from={fresh_day}") <= SENT_MAX
        await is_clean(standing, fresh_day)  # and once more with the right entry there


@pytest.mark.parametrize("method", ["get", "Get", "GET\t", "PURGE", "TRACE", "POST", "OPTIONS", "BREW"])
async def test_method_confusion_another_method_is_shown_no_entry_and_makes_none(
    standing: Standing, method: str, fresh_day: str
) -> None:
    for _ in range(2):
        answer = await asked(
            standing, standing.request(f"{ABSENCES}?from={fresh_day}", PARENT, method=method)
        )
        assert answer is None or answer.status in {204, 400, 405}
        assert answer is None or b"absences" not in answer.body
        await is_clean(standing, fresh_day)


# Headers that select nothing

UNKEYED = {
    "host": (f"host: {EVIL}",),
    "forwarded host": (f"x-forwarded-host: {EVIL}", f"forwarded: host={EVIL};proto=http"),
    "forwarded address": ("x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", f"via: 1.1 {EVIL}"),
    "another address": (f"x-original-url: /{EVIL}", f"x-rewrite-url: /{EVIL}"),
    "another method": ("x-http-method-override: DELETE", "x-method-override: PUT"),
    "a cookie": (f"cookie: role=teacher; {EVIL}",),
    "the datacenter's own words": (
        "massar-epoch: 999",
        "massar-mode: survival",
        f"massar-assertion: {EVIL}",
        f"massar-principal: {TEACHER}",
    ),
    "wishes of a cache": (
        "cache-control: no-store, only-if-cached",
        "pragma: no-cache",
        "surrogate-key: all",
    ),
    "an origin": (f"origin: https://{EVIL}", f"referer: https://{EVIL}/"),
    "hop by hop": ("connection: close, authorization, host, massar-epoch",),
}


@pytest.mark.parametrize("name", UNKEYED)
async def test_unkeyed_header_poisoning_what_selects_nothing_reaches_neither_the_datacenter_nor_the_next_reader(
    standing: Standing, name: str, fresh_day: str
) -> None:
    raw = standing.request(f"{ABSENCES}?from={fresh_day}", PARENT, *UNKEYED[name])
    poisoned = await asked(standing, raw.replace(b"host: gateway\r\n", b"") if name == "host" else raw)
    assert poisoned is not None
    assert poisoned.status == 200
    assert EVIL not in str(poisoned.headers)
    clean = await is_clean(standing, fresh_day)
    assert poisoned.body == clean.body
    for seen in standing.rabat.seen:
        assert EVIL not in str(seen)
        assert (seen.headers["massar-epoch"], seen.headers["host"]) == ("1", standing.rabat.url[7:])


# Queries


@pytest.mark.parametrize(
    "query",
    [
        "from={day}&from=2026-09-02",
        "from=2026-09-02&from={day}",
        "from={day}&%66rom=2026-09-02",
        "from={day}&from=",
        "from={day}%26from=2026-09-02",
        "from={day}%7Cview=teacher",
        "from={day}%26view%3Dteacher",
        "from={day}%00",
        "from={day}%0a",
        "from=%20{day}",
        "from={day};view=teacher",
    ],
)
async def test_parameter_pollution_and_key_injection_are_refused_and_make_no_entry(
    standing: Standing, query: str, fresh_day: str
) -> None:
    for _ in range(2):
        before = standing.rabat.count("/absences")
        answer = await asked(standing, standing.request(f"{ABSENCES}?{query.format(day=fresh_day)}", PARENT))
        assert answer is not None
        assert (answer.status, answer.slug) == (400, "bad-request")
        assert standing.rabat.count("/absences") == before
        await is_clean(standing, fresh_day)


@pytest.mark.parametrize(
    "query",
    [
        "from={day}&FROM=2026-09-02",
        "from={day}&from[]=2026-09-02",
        "from={day}&view=teacher",
        "view=teacher&from={day}",
        "from={day}&pupil_id=" + STRANGER,
        "from={day}&%20from=2026-09-02",
        "&&from={day}&=&&",
        "utm_source=evil.example&from={day}",
        "callback=evil.example&from={day}",
        "%66rom={day}",
    ],
)
async def test_parameter_cloaking_what_no_route_takes_selects_nothing(
    standing: Standing, query: str, fresh_day: str
) -> None:
    cloaked = await asked(standing, standing.request(f"{ABSENCES}?{query.format(day=fresh_day)}", PARENT))
    assert cloaked is not None
    assert cloaked.status == 200
    clean = await is_clean(standing, fresh_day)
    assert cloaked.body == clean.body
    assert not any(EVIL in seen.target or STRANGER in seen.target for seen in standing.rabat.seen)


async def test_view_confusion_a_view_is_of_who_asks_and_not_of_what_is_asked(
    standing: Standing, fresh_day: str
) -> None:
    for _ in range(2):
        for who, own, other in ((TEACHER, "teacher", "family"), (PARENT, "family", "teacher")):
            answer = await standing.get(f"{ABSENCES}?from={fresh_day}&view={other}", who, f"view: {other}")
            assert msgspec.json.decode(answer.body) == expected(fresh_day, own)
    await standing.get(f"{ABSENCES}?from={fresh_day}", TEACHER)
    assert standing.rabat.count(f"from={fresh_day}") <= 2 * SENT_MAX


# Who asks


@pytest.mark.parametrize(
    ("variant", "slug"),
    [
        ((), "token-missing"),
        (("authorization: {basic}",), "token-missing"),
        (("authorization: ",), "token-missing"),
        (("authorization: Bearer",), "token-missing"),
        (("authorization: {bare}",), "token-missing"),
        (("authorization: Token {bare}",), "token-missing"),
        (("x-authorization: {good}",), "token-missing"),
        (("proxy-authorization: {good}",), "token-missing"),
        (("cookie: authorization={good}; access_token={bare}",), "token-missing"),
        (("authorization: {good}x",), "token-invalid"),
        (("authorization: {good},",), "token-invalid"),
        (("authorization: {good} {bare}",), "token-invalid"),
        (("authorization: {good}, {good}",), "token-invalid"),
        (("authorization: {good}", "authorization: {good}"), "token-invalid"),
        (("authorization: {good}", "authorization: {other}"), "token-invalid"),
        (("authorization: {other}", "Authorization: {good}"), "token-invalid"),
        (("authorization: {good}", "authorization: "), "token-invalid"),
        (("authorization: {unsigned}",), "token-invalid"),
        (("authorization: {forged}",), "token-invalid"),
        (("authorization: Digest {bare}",), "token-missing"),
    ],
)
async def test_authorization_variants_what_is_no_token_is_shown_no_entry_and_makes_none(
    standing: Standing, variant: tuple[str, ...], slug: str, fresh_day: str
) -> None:
    good = standing.bearer(PARENT)
    bare = good.removeprefix("Bearer ")
    words = {
        "good": good,
        "bare": bare,
        "other": standing.bearer(CLASSMATE),
        "basic": "Basic " + bare,
        "unsigned": good[: good.rindex(".") + 1],
        "forged": good[: good.rindex(".")] + standing.bearer(PARENT)[good.rindex(".") :],
    }
    lines = [line.format(**words) for line in variant]
    target = f"{ABSENCES}?from={fresh_day}&access_token={bare}"
    for cold in (True, False):
        answer = await asked(standing, standing.request(target, None, *lines))
        assert answer is not None
        assert (answer.status, answer.slug) == (401, slug)
        assert (answer.header("www-authenticate") or "").startswith("Bearer")
        if cold:
            assert standing.rabat.count(f"from={fresh_day}") == 0
            await is_clean(standing, fresh_day)
            known = await asked(standing, standing.request(target, None, f"authorization: {good}"))
            assert known is not None
            assert known.status == 200  # from now on the token itself is remembered


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer  {}", " Bearer {} "])
async def test_authorization_variants_another_writing_of_one_token_is_the_same_caller(
    standing: Standing, form: str, fresh_day: str
) -> None:
    for who, statuses in ((PARENT, {200, 401}), (CLASSMATE, {404, 401}), (STRANGER, {404, 401})):
        line = "authorization: " + form.format(standing.bearer(who).removeprefix("Bearer "))
        for _ in range(2):
            answer = await asked(standing, standing.request(f"{ABSENCES}?from={fresh_day}", None, line))
            assert answer is not None
            assert answer.status in statuses
            assert answer.status == 200 or b"absence1" not in answer.body
    await is_clean(standing, fresh_day)


# Requests within requests


async def test_fat_get_poisoning_a_body_selects_nothing_and_is_no_request(
    standing: Standing, fresh_day: str
) -> None:
    inside = standing.request(f"/v1/pupils/{STRANGER}/absences", PARENT)
    for body in (b"from=2026-09-02&view=teacher", b'{"from":"2026-09-02"}', inside):
        fat = standing.request(f"{ABSENCES}?from={fresh_day}", PARENT, f"content-length: {len(body)}") + body
        async with standing.wire() as wire:
            await wire.send(fat + standing.request("/livez", None))
            first, second = await wire.heard(), await wire.heard()
        assert (first.status, msgspec.json.decode(first.body)) == (200, expected(fresh_day))
        assert (second.status, msgspec.json.decode(second.body)) == (200, {"status": "alive"})
    await is_clean(standing, fresh_day)
    assert not any(STRANGER in seen.target for seen in standing.rabat.seen)


@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 5"),
        ("transfer-encoding: chunked", "transfer-encoding: identity"),
        ("transfer-encoding: identity, chunked",),
        ("transfer-encoding: xchunked",),
        ("transfer-encoding:\tchunked",),
        ("transfer-encoding : chunked",),
        ("content-length: 0", "content-length: 44"),
        ("content-length: +5",),
        ("content-length: 5, 5",),
    ],
)
async def test_request_smuggling_what_two_servers_could_end_at_two_places_poisons_nothing(
    standing: Standing, lines: tuple[str, ...], fresh_day: str
) -> None:
    target = f"{ABSENCES}?from={fresh_day}"
    hidden = standing.request(f"/v1/pupils/{STRANGER}/absences", CLASSMATE)
    async with standing.wire() as wire:
        answer = await wire.asked(standing.request(target, PARENT, *lines) + b"0\r\n\r\n" + hidden)
        assert answer is None or answer.status in {200, 400}
        if answer is not None and answer.status == 200:
            assert msgspec.json.decode(answer.body) == expected(fresh_day)
    await is_clean(standing, fresh_day)
