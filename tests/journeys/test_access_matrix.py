"""Who may do what: every route, every role, every relation, and every token that is none.

`MATRIX` is the whole expectation. A cell is the status for a caller of the column's role who asks about the pupil
whom the column names (or that pupil's class, gradebook or session); a path that names nobody has one status per role.
"""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, timedelta

import asyncpg
import httpx
import jwt
import msgspec
import pytest

from auth.access import Rule
from auth.opaque_id import new_id
from auth.principal import Role
from gateway.router import endpoints
from sandbox.phone import Account
from tests.countries import RunningCountry
from tests.journeys.lines import Line, lines
from tests.journeys.people import NOBODY, Mint, People

COLUMNS = [
    *("student:self", "student:classmate", "student:stranger", "student:nobody"),
    *("parent:child", "parent:revoked", "parent:classmate", "parent:stranger", "parent:nobody"),
    *("teacher:taught", "teacher:untaught", "teacher:stranger", "teacher:nobody"),
]

MATRIX = """
                                                    |     student         |         parent          |      teacher
                                                    | self mate strg none | chil revo mate strg none | taug unta strg none
GET /v1/pupils/{pupil}/timetable                    | 200  404  404  404  | 200  404  404  404  404  | 200  404  404  404
GET /v1/pupils/{pupil}/absences                     | 200  404  404  404  | 200  404  404  404  404  | 200  404  404  404
GET /v1/pupils/{pupil}/homework                     | 200  404  404  404  | 200  404  404  404  404  | 200  404  404  404
GET /v1/pupils/{pupil}/grades                       | 200  404  404  404  | 200  404  404  404  404  | 403  403  403  403
GET /v1/home?pupil_id={pupil}                       | 200  404  404  404  | 200  404  404  404  404  | 200  404  404  404
GET /v1/home                                        | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
GET /v1/me                                          | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
GET /v1/announcements                               | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
GET /v1/teachers/me/service                         | 403  403  403  403  | 403  403  403  403  403  | 200  200  200  200
GET /v1/classes/{class}/pupils                      | 403  403  403  403  | 403  403  403  403  403  | 200  404  404  404
PUT /v1/classes/{class}/attendance/{lesson}         | 403  403  403  403  | 403  403  403  403  403  | 200  404  404  404
POST /v1/classes/{class}/homework (his subject)     | 403  403  403  403  | 403  403  403  403  403  | 201  404  404  404
POST /v1/classes/{class}/homework (another's)       | 403  403  403  403  | 403  403  403  403  403  | 404  404  404  404
GET /v1/gradebooks/{class}/{his}/1                  | 403  403  403  403  | 403  403  403  403  403  | 200  404  404  404
GET /v1/gradebooks/{class}/{another's}/1            | 403  403  403  403  | 403  403  403  403  403  | 404  404  404  404
PUT /v1/gradebooks/{class}/{his}/1/entries          | 403  403  403  403  | 403  403  403  403  403  | 200  404  404  404
PUT /v1/gradebooks/{class}/{another's}/1/entries    | 403  403  403  403  | 403  403  403  403  403  | 404  404  404  404
GET /v1/auth/sessions                               | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
DELETE /v1/auth/sessions/{session}                  | 204  404  404  404  | 404  404  404  404  404  | 404  404  404  404
DELETE /v1/auth/sessions                            | 204  204  204  204  | 204  204  204  204  204  | 204  204  204  204
POST /v1/auth/tokens (another grant)                | 400  400  400  400  | 400  400  400  400  400  | 400  400  400  400
POST /v1/auth/tokens/refresh (with no token)        | 401  401  401  401  | 401  401  401  401  401  | 401  401  401  401
GET /v1/status                                      | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
GET /.well-known/jwks.json                          | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
GET /livez                                          | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
GET /readyz                                         | 200  200  200  200  | 200  200  200  200  200  | 200  200  200  200
"""
ROWS = {
    name.strip(): [int(status) for status in cells.replace("|", " ").split()]
    for name, _, cells in (line.partition("|") for line in MATRIX.strip().splitlines()[2:])
}
# What a table's path stands for, in the words of the declarations.
SPELLINGS = {
    "{pupil}": "{pupil_id}",
    "{class}": "{class_id}",
    "{lesson}": "{date}/{slot}",
    "{his}/1": "{subject}/{session}",
    "{another's}/1": "{subject}/{session}",
    "{session}": "{id}",
    "?pupil_id={pupil_id}": "",
    " (his subject)": "",
    " (another's)": "",
    " (another grant)": "",
    " (with no token)": "",
}
OF_ITS_OWN = ("massar-request-id", "date", "age", "cache-status")


def declared(row: str) -> str:
    """`METHOD /path/{template}` as the handlers declare it."""
    for ours, theirs in SPELLINGS.items():
        if not (ours == "{session}" and "gradebooks" in row):
            row = row.replace(ours, theirs)
    return row


class Asking:
    """Makes the real request behind a cell of the matrix."""

    def __init__(
        self, people: People, mint: Mint, records: asyncpg.Connection, accounts: asyncpg.Connection
    ) -> None:
        self._people = people
        self._mint = mint
        self._records = records
        self._accounts = accounts
        self._sessions: dict[str, str] = {}

    def caller(self, column: str) -> Account:
        """The account of a column."""
        people = self._people
        if column == "parent:revoked":
            return people.revoked_parent
        return {"student": people.student, "parent": people.parent, "teacher": people.teacher}[
            column.partition(":")[0]
        ]

    def pupil(self, column: str) -> str:
        """The pupil of a column."""
        people = self._people
        return {
            "self": people.student.id,
            "child": people.parent.children[0],
            "taught": people.student.id,
            "classmate": people.classmate.id,
            "stranger": people.stranger.id,
            "revoked": people.revoked_parent.revoked,
            "untaught": people.untaught,
            "nobody": NOBODY,
        }[column.partition(":")[2]]

    async def ask(self, line: Line, row: str, column: str, *, bearer: str | None = "") -> httpx.Response:
        """Ask what the cell says; all is right about the request but perhaps the caller.

        `bearer` replaces the Authorization header of the column's caller; None leaves it out.
        """
        method, path = row.partition(" (")[0].split()
        pupil, caller = self.pupil(column), self.caller(column)
        class_id = await self._class_of(pupil)
        his = self._people.teacher.subject
        others = await self._records.fetchval(
            "SELECT subject FROM assignments WHERE class_id = $1 AND teacher <> $2 ORDER BY subject LIMIT 1",
            self._people.teacher.class_id,
            self._people.teacher.id,
        )
        replaced = {"{pupil}": pupil, "{class}": class_id, "{his}": his, "{another's}": others}
        for word, value in replaced.items():
            path = path.replace(word, value)
        if "{lesson}" in path:
            path = path.replace("{lesson}", await self._lesson(class_id))
        if "{session}" in path:
            path = path.replace("{session}", await self._session(line, column))
        payload = self._payload(row, his if "(his" in row else others)
        if bearer == "":
            bearer = f"Bearer {self._mint.token(role_of(column), caller.id)}"
        headers = {"idempotency-key": new_id()} | ({} if bearer is None else {"authorization": bearer})
        return await line.ask(method, path, payload=payload, headers=headers)

    def _payload(self, row: str, subject: str) -> object:
        """A body the datacenter accepts and that changes nothing others look at."""
        if row.startswith("POST /v1/auth/tokens/refresh"):
            return {"refresh_token": "none", "device": {"id": "matrix"}}
        if row.startswith("POST /v1/auth/tokens"):
            return {**credentials(self._people.student), "grant": "one-time-code"}
        if "attendance" in row:
            seen = "2026-11-20T09:00:00Z"
            return {"entries": [{"pupil_id": NOBODY, "state": "present", "observed_at": seen}]}
        if "entries" in row:
            entry = {"pupil_id": NOBODY, "number": 1, "mark": "10.00", "state": "marked", "version": 0}
            return {"entries": [entry]}
        if row.startswith("POST /v1/classes"):
            return {"subject": subject, "text": "Relire la leçon", "due_on": "2027-07-01"}
        return None

    async def _class_of(self, pupil: str) -> str:
        return await self._records.fetchval("SELECT class_id FROM pupils WHERE id = $1", pupil) or NOBODY

    async def _lesson(self, class_id: str) -> str:
        """Day and start of some lesson of the class (of any, where there is no such class)."""
        lesson = await self._records.fetchrow(
            "SELECT day, start_at FROM lessons ORDER BY class_id = $1 DESC, day, start_at LIMIT 1", class_id
        )
        assert lesson is not None
        monday = date.fromisocalendar(2026, 46, 1)
        return f"{monday + timedelta(days=lesson['day'] - 1)}/{lesson['start_at']:%H%M}"

    async def _session(self, line: Line, column: str) -> str:
        """A live session of the column's pupil; his own is one that he may end."""
        pupil = self.pupil(column)
        if pupil not in self._sessions or column == "student:self":
            login = await self._accounts.fetchval(
                "SELECT login FROM accounts WHERE app = 'moutamadris' AND subject = $1", pupil
            )
            account = msgspec.structs.replace(self._people.student, login=login or "", id=pupil)
            session = NOBODY if login is None else await current_session(line, account)
            if column == "student:self":
                return session
            self._sessions[pupil] = session
        return self._sessions[pupil]


def credentials(account: Account) -> dict[str, object]:
    """A sign-in request that is right."""
    return {
        "grant": "password",
        "app": account.app,
        "login": account.login,
        "password": account.password,
        "device": {"id": "matrix", "name": "matrix"},
    }


async def current_session(line: Line, account: Account) -> str:
    """Sign in and return the session's id."""
    answer = await line.ask("POST", "/v1/auth/tokens", payload=credentials(account))
    assert answer.status_code == 200, answer.text
    listed = await line.get("/v1/auth/sessions", answer.json()["access_token"])
    return str(next(session["id"] for session in listed.json()["sessions"] if session["current"]))


@pytest.fixture(scope="module")
def asking(people: People, mint: Mint, records: asyncpg.Connection, accounts: asyncpg.Connection) -> Asking:
    return Asking(people, mint, records, accounts)


def role_of(column: str) -> Role:
    return Role(column.partition(":")[0])


def test_the_matrix_names_every_route() -> None:
    assert {declared(row) for row in ROWS} == {f"{each.method} {each.path}" for each in endpoints()}


@pytest.mark.parametrize("row", ROWS)
async def test_a_route_opens_to_whom_the_matrix_says(
    row: str, asking: Asking, everywhere: tuple[Line, ...]
) -> None:
    line = everywhere[list(ROWS).index(row) % len(everywhere)]  # the rate limit counts per worker
    # A read once more: then the edge answers what it may, and must not open to anybody else.
    turns = 2 if row.startswith("GET") else 1
    for _ in range(turns):
        statuses = {}
        for column in COLUMNS:
            statuses[column] = (await asking.ask(line, row, column)).status_code
        assert statuses == dict(zip(COLUMNS, ROWS[row], strict=True))


HIDING = [row for row, statuses in ROWS.items() if 404 in statuses]


@pytest.mark.parametrize("row", HIDING)
async def test_what_is_not_yours_reads_like_what_does_not_exist(
    row: str, asking: Asking, everywhere: tuple[Line, ...]
) -> None:
    line = everywhere[-1 - HIDING.index(row) % len(everywhere)]
    for role, columns in itertools.groupby(COLUMNS, role_of):
        refusals = {}
        for column in columns:
            answer = await asking.ask(line, row, column)
            if answer.status_code == 404:
                refusals[column] = indistinct(answer)
        nothing = refusals.get(f"{role}:nobody")
        assert refusals == dict.fromkeys(refusals, nothing)


def indistinct(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """An answer without what every answer has of its own: its request id, in header and `instance`, and the time."""
    request_id = answer.headers["massar-request-id"]
    assert answer.json()["instance"] == f"urn:request:{request_id}"
    headers = {name: value for name, value in answer.headers.items() if name not in OF_ITS_OWN}
    length = int(headers.pop("content-length")) - len(request_id)
    return (
        answer.status_code,
        {**headers, "length": str(length)},
        answer.content.replace(request_id.encode(), b""),
    )


@pytest.mark.parametrize("spelling", ["A" * 16, "0" * 16, "é" * 8, "a" * 65, "a.a", "%00", "a%2Fa"])
async def test_an_id_of_another_form_names_nobody(
    spelling: str, asking: Asking, mint: Mint, rabat: Line
) -> None:
    token = mint.token("student", asking.caller("student:self").id)
    answer = await rabat.get(f"/v1/pupils/{spelling}/timetable", token)
    there_is_none = await rabat.get(f"/v1/pupils/{NOBODY}/timetable", token)
    assert indistinct(answer) == indistinct(there_is_none)


# Tokens that are none

Forge = Callable[[Mint, Role, str], str | None]
Told = Callable[[Forge], Awaitable[dict[str, tuple[int, str, str]]]]


def _claims(mint: Mint, role: Role, subject: str) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(mint.token(role, subject), options={"verify_signature": False})
    return claims


def _signed(mint: Mint, claims: dict[str, object], **header: str) -> str:
    named = {"typ": "at+jwt", "kid": mint.keys.signing_kid, **header}
    return "Bearer " + jwt.encode(claims, mint.keys.signing_key, algorithm="ES256", headers=named)


def _of_another_app(mint: Mint, role: Role, subject: str) -> str:
    other = {"student": "waliye", "parent": "moudaris", "teacher": "moutamadris"}[role]
    return _signed(mint, {**_claims(mint, role, subject), "aud": other})


def _for_several_apps(mint: Mint, role: Role, subject: str) -> str:
    claims = _claims(mint, role, subject)
    return _signed(mint, {**claims, "aud": [claims["aud"], "waliye"]})


def _with_another_role(mint: Mint, role: Role, subject: str) -> str:
    other = {"student": "teacher", "parent": "student", "teacher": "parent"}[role]
    return _signed(mint, {**_claims(mint, role, subject), "role": other})


def _tampered_signature(mint: Mint, role: Role, subject: str) -> str:
    head, _, signature = mint.token(role, subject).rpartition(".")
    return f"Bearer {head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def _tampered_claims(mint: Mint, role: Role, subject: str) -> str:
    head, _, signature = mint.token(role, subject).split(".")
    claims = msgspec.json.encode({**_claims(mint, role, subject), "sub": NOBODY})
    return f"Bearer {head}.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.{signature}"


def _unsigned(mint: Mint, role: Role, subject: str) -> str:
    header = msgspec.json.encode({"alg": "none", "typ": "at+jwt", "kid": mint.keys.signing_kid})
    _, claims, _ = mint.token(role, subject).split(".")
    return f"Bearer {base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{claims}."


def _refresh_token(mint: Mint, _role: Role, _subject: str) -> str:
    token, _ = mint.tokens.issue_refresh(family=new_id(), sequence=1, device_id="d", now=time.time())
    return f"Bearer {token}"


FORGERIES: dict[str, tuple[Forge, str]] = {
    "no token": (lambda *_: None, "token-missing"),
    "an empty token": (lambda *_: "Bearer", "token-missing"),
    "another scheme": (lambda mint, role, who: f"Basic {mint.token(role, who)}", "token-missing"),
    "no scheme": (lambda mint, role, who: mint.token(role, who), "token-missing"),
    "expired": (lambda mint, role, who: f"Bearer {mint.expired(role, who)}", "token-expired"),
    "another app's": (_of_another_app, "token-invalid"),
    "several apps'": (_for_several_apps, "token-invalid"),
    "another role": (_with_another_role, "token-invalid"),
    "tampered signature": (_tampered_signature, "token-invalid"),
    "tampered claims": (_tampered_claims, "token-invalid"),
    "alg none": (_unsigned, "token-invalid"),
    "a refresh token": (_refresh_token, "token-invalid"),
}
# One column per route: one who gets in with a good token.
OPEN = {f"{each.method} {each.path}" for each in endpoints() if each.rule is Rule.OPEN}
CLOSED = {
    row: COLUMNS[next(index for index, status in enumerate(statuses) if status < 300)]
    for row, statuses in ROWS.items()
    if declared(row) not in OPEN and "another's" not in row
}


@pytest.fixture(scope="module")
async def warm(country: RunningCountry, asking: Asking, mint: Mint) -> AsyncIterator[Told]:
    """Asks every closed route with a forgery, at a worker that would answer the reads at once."""
    async with lines({"rabat": country.addresses.gateways["rabat"]}, workers=1) as (line,):
        for row, column in CLOSED.items():
            if row.startswith("GET"):
                assert (await asking.ask(line, row, column)).status_code == 200

        async def told(forge: Forge) -> dict[str, tuple[int, str, str]]:
            found = {}
            for row, column in CLOSED.items():
                bearer = forge(mint, role_of(column), asking.caller(column).id)
                answer = await asking.ask(line, row, column, bearer=bearer)
                challenge = answer.headers.get("www-authenticate", "")
                found[row] = (answer.status_code, answer.json().get("slug", ""), challenge)
            return found

        yield told


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_token_that_is_none_opens_nothing(forgery: str, warm: Told) -> None:
    forge, slug = FORGERIES[forgery]
    challenge = 'Bearer realm="massar"' + ("" if slug == "token-missing" else ', error="invalid_token"')
    assert await warm(forge) == dict.fromkeys(CLOSED, (401, slug, challenge))
