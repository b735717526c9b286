"""Each app's document against the running gateway: whatever is sent, the answer is one that the document knows."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from auth.opaque_id import new_id
from auth.principal import APP_OF_ROLE, Role
from sandbox.phone import Account
from tests.countries import RunningCountry
from tests.journeys.people import Mint

DOCUMENTS = Path(__file__).parents[2] / "openapi"
# Examples per operation and mode; fewer where there is little to vary, or where each costs a password check.
EXAMPLES_MAX = 12
PLAIN_EXAMPLES_MAX = 3
SIGN_IN_EXAMPLES_MAX = 4
ANSWER_WITHIN_S = 20.0
POSITION = r"\d{1,10}-\d{1,20}"
MOSTLY = st.sampled_from([True, True, True, False])
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
SCHEMAS = {role: schemathesis.openapi.from_path(DOCUMENTS / f"{APP_OF_ROLE[role]}.json") for role in Role}
Operation = schemathesis.APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]
OPERATIONS: list[tuple[Role, str, str]] = [
    (role, path, method) for role, schema in SCHEMAS.items() for path in schema for method in schema[path]
]
NAMES = [f"{APP_OF_ROLE[role]} {method.upper()} {path}" for role, path, method in OPERATIONS]


class Cast(msgspec.Struct, frozen=True):
    """A pupil, a guardian and a teacher of his, a gradebook of the teacher's, a lesson of the class; no samples."""

    pupil: str
    guardian: str
    teacher: str
    class_id: str
    subject: str
    slot: str
    day: int

    def of(self, role: Role) -> str:
        """Who acts in a role."""
        return {Role.STUDENT: self.pupil, Role.PARENT: self.guardian, Role.TEACHER: self.teacher}[role]

    def path_parameters(self) -> dict[str, str]:
        """Path parameters that name something."""
        return {
            "pupil_id": self.pupil,
            "class_id": self.class_id,
            "subject": self.subject,
            "session": "1",
            "date": f"2026-11-{8 + self.day:02}",
            "slot": self.slot,
            "id": "a" * 16,
        }


@pytest.fixture(scope="module")
async def casts(country: RunningCountry, records: asyncpg.Connection) -> list[Cast]:
    """As many as there are pupils: the rate limit counts per principal."""
    named = [account.get("id") for account in country.addresses.accounts.values()]
    rows = await records.fetch(
        """
        SELECT DISTINCT ON (pupils.id) pupils.id AS pupil, guardian, assignments.teacher, pupils.class_id,
               assignments.subject, to_char(start_at, 'HH24MI') AS slot, day
        FROM pupils JOIN guardianships ON guardianships.pupil = pupils.id AND status = 'active'
        JOIN assignments ON assignments.class_id = pupils.class_id
        JOIN gradebooks ON gradebooks.class_id = assignments.class_id AND gradebooks.subject = assignments.subject
          AND session = 1 AND NOT locked
        JOIN lessons ON lessons.class_id = pupils.class_id
        WHERE NOT (pupils.id = ANY ($1) OR guardian = ANY ($1) OR assignments.teacher = ANY ($1))
        ORDER BY pupils.id, md5(assignments.teacher || pupils.id), day, start_at
        """,
        named,
    )
    return [Cast(**dict(row)) for row in rows]


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Connections that are kept."""
    with requests.Session() as kept:
        kept.trust_env = False
        yield kept


Send = Callable[..., schemathesis.Response]


@pytest.fixture(scope="module")
def send(country: RunningCountry, session: requests.Session) -> Send:
    """Sends a case, with a token or as it is, and checks the answer against the document."""
    base = country.addresses.gateways["rabat"]

    def sent(case: Case, *, token: str | None) -> schemathesis.Response:
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        response = case.call(base_url=base, session=session, headers=bearer, timeout=ANSWER_WITHIN_S)
        case.validate_response(response, checks=CHECKS)
        return response

    return sent


def operation_of(role: Role, path: str, method: str) -> Operation:
    found: Operation = SCHEMAS[role][path][method]
    return found


def takes_something(operation: Operation) -> bool:
    """Whether a request can be wrong; one that is open and takes nothing cannot."""
    raw = operation.definition.raw
    return bool(raw["parameters"] or raw["security"] or "requestBody" in raw)


FUZZED = [
    pytest.param(role, path, method, mode, id=f"{name} {mode.value}")
    for (role, path, method), name in zip(OPERATIONS, NAMES, strict=True)
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or takes_something(operation_of(role, path, method))
]


def examples_max(path: str, operation: Operation) -> int:
    """How many examples an operation is worth."""
    if path == "/v1/auth/tokens":
        return SIGN_IN_EXAMPLES_MAX
    varied = operation.body or operation.path_parameters or operation.query
    return EXAMPLES_MAX if varied else PLAIN_EXAMPLES_MAX


@pytest.mark.parametrize(("role", "path", "method", "mode"), FUZZED)
def test_whatever_is_sent_is_answered_as_documented(
    role: Role, path: str, method: str, mode: GenerationMode, casts: list[Cast], mint: Mint, send: Send
) -> None:
    operation = operation_of(role, path, method)
    cast = casts[OPERATIONS.index((role, path, method)) * len(casts) // len(OPERATIONS)]

    @given(
        case=operation.as_strategy(generation_mode=mode),
        real=MOSTLY,
        mine=st.booleans(),
        signed_in=MOSTLY,
    )
    @settings(
        max_examples=examples_max(path, operation),
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def conforms(case: Case, real: bool, mine: bool, signed_in: bool) -> None:
        if real:
            known = cast.path_parameters()
            case.path_parameters.update({name: known[name] for name in case.path_parameters})
        if mine:
            make_mine(case, cast)
        make_reached(case)
        valid = signed_in or mode is GenerationMode.POSITIVE
        send(case, token=mint.token(role, cast.of(role)) if valid else None)

    conforms()


def make_reached(case: Case) -> None:
    """A position of the right form is one that was reached: an invented one is rightly 503, as no answer shows it."""
    headers: Any = case.headers
    if headers is not None and re.fullmatch(POSITION, str(headers.get("Massar-Position")), re.ASCII):
        headers["Massar-Position"] = "1-1"


def make_mine(case: Case, cast: Cast) -> None:
    """Let a case speak of the class (a real pupil in its first row, a real subject) and hold the answer already."""
    if case.headers and "If-None-Match" in case.headers:
        case.headers["If-None-Match"] = "*"
    if not isinstance(case.body, dict):
        return
    rows = case.body.get("entries")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        rows[0]["pupil_id"] = cast.pupil
    for name, value in (("subject", cast.subject), ("due_on", "2027-06-15"), ("grant", "password")):
        if name in case.body:
            case.body[name] = value


def credentials(account: Account) -> dict[str, Any]:
    """What signs an account in."""
    return {
        "grant": "password",
        "app": account.app,
        "login": account.login,
        "password": account.password,
        "device": {"id": "contract"},
    }


def body_of(path: str, cast: Cast) -> Any:
    """A body that is accepted."""
    match path.rsplit("/", 1)[-1]:
        case "entries":
            entry = {"pupil_id": cast.pupil, "number": 1, "mark": "11.50", "state": "marked", "version": 0}
            return {"entries": [entry, {**entry, "number": 9}]}
        case "{slot}":
            row = {"pupil_id": cast.pupil, "state": "late", "observed_at": "2026-11-20T09:00:00Z"}
            return {"entries": [row, {**row, "pupil_id": "a" * 16}]}
        case "homework":
            return {"subject": cast.subject, "text": "Relire la leçon", "due_on": "2027-06-15"}
    raise AssertionError(path)


@pytest.mark.parametrize(("role", "path", "method"), OPERATIONS, ids=NAMES)
def test_a_right_request_gets_the_documented_success(
    role: Role, path: str, method: str, country: RunningCountry, casts: list[Cast], mint: Mint, send: Send
) -> None:
    operation, cast = operation_of(role, path, method), casts[len(casts) // 2]
    account = msgspec.convert(country.addresses.accounts[role], Account)
    sid = new_id()
    token = mint.token(role, cast.of(role), sid=sid)
    case = operation.Case(
        path_parameters={each.name: cast.path_parameters()[each.name] for each in operation.path_parameters},
        headers={"Idempotency-Key": secrets.token_hex(8)},
        media_type="application/json" if operation.body else None,
    )
    if path == "/v1/auth/tokens/refresh":
        case.body = {"refresh_token": refresh_token_of(send, role, account), "device": {"id": "contract"}}
    elif path == "/v1/auth/tokens":
        case.body = credentials(account)
    elif operation.body:
        case.body = body_of(path, cast)
    if path == "/v1/auth/sessions/{id}":
        case.path_parameters["id"] = sid
    response = send(case, token=token)
    assert response.status_code == min(int(status) for status in operation.definition.raw["responses"])


def refresh_token_of(send: Send, role: Role, account: Account) -> str:
    """A refresh token of a sample account."""
    case = operation_of(role, "/v1/auth/tokens", "POST").Case(media_type="application/json")
    case.body = credentials(account)
    return str(send(case, token=None).json()["refresh_token"])
