"""One OpenAPI 3.1 document per app, made from what the handlers declare.

Litestar's own generator cannot see through handlers that answer ready bytes, and describes its own errors rather
than ours; msgspec writes the schemas of the wire Structs.
Invariant: an operation stands in an app's document exactly when `auth.access` lets that app's role use it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from auth.access import RULES, Rule
from auth.principal import APP_OF_ROLE, Role
from gateway.router import endpoints
from routes.endpoint import Endpoint
from routes.problems import DEFAULT_LANGUAGE, PROBLEM_JSON, PROBLEMS, ProblemDetails, problem_details
from routes.wire import CLASS_ID_EXAMPLE, PUPIL_ID_EXAMPLE

VERSION = "0.1.0"
BASE_URL = "https://massar.example/problems/"
REFERENCE = "#/components/schemas/{name}"
TITLES = {
    Role.STUDENT: "Moutamadris: SI-MASSAR for pupils",
    Role.PARENT: "Waliye: SI-MASSAR for parents",
    Role.TEACHER: "Moudaris: SI-MASSAR for teachers",
}
_ID_PATTERN = "^[a-z2-7]{1,64}$"
_PATH_SCHEMAS: dict[str, tuple[dict[str, Any], str]] = {
    "pupil_id": ({"type": "string", "pattern": _ID_PATTERN}, PUPIL_ID_EXAMPLE),
    "class_id": ({"type": "string", "pattern": _ID_PATTERN}, CLASS_ID_EXAMPLE),
    "id": ({"type": "string", "pattern": _ID_PATTERN}, "s2b7c4d5e6f3g2h7"),
    "subject": ({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$"}, "MATH"),
    "session": ({"type": "string", "enum": ["1", "2"]}, "1"),
    "date": ({"type": "string", "format": "date"}, "2026-11-18"),
    "slot": ({"type": "string", "pattern": "^([01][0-9]|2[0-3])[0-5][0-9]$"}, "0830"),
}
_QUERY_SCHEMAS: dict[str, dict[str, Any]] = {
    "week": {"type": "string", "pattern": "^20[0-9]{2}-W(0[1-9]|[1-4][0-9]|5[0-2])$"},
    "year": {"type": "string", "pattern": "^20[0-9]{2}$"},
    "session": {"type": "string", "enum": ["1", "2"]},
    "date": {"type": "string", "format": "date"},
    "id": {"type": "string", "pattern": _ID_PATTERN},
}
_POSITION_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^[0-9]{1,10}-[0-9]{1,20}$"}
_ALWAYS = ("uri-too-long", "headers-too-large", "overloaded")
_SIGNED_IN = ("token-missing", "token-invalid", "token-expired", "session-ended", "rate-limited")
_READ = ("datacenters-unavailable", "position-not-reached", "bad-request", "denials-unavailable")
_RELATED = ("not-found", "relations-unavailable")
_BODY = ("bad-request", "request-timeout", "body-too-large", "unsupported-media-type")
_IDEMPOTENT = (
    "idempotency-key-required",
    "idempotency-key-in-progress",
    "idempotency-key-expired",
    "idempotency-key-reused",
    "read-only",
    "switching",
    "outcome-unknown",
)
_STANDING_HEADERS = {
    "Massar-Request-Id": "this request's id, for support",
    "Massar-Epoch": "the declared epoch",
    "Massar-Mode": "normal, read-only, survival, switching, degraded or unprotected",
}


def documents() -> dict[str, str]:
    """File name to text of each app's document."""
    return {f"{APP_OF_ROLE[role].value}.json": _text(document(role)) for role in TITLES}


def document(role: Role) -> dict[str, Any]:
    """The OpenAPI document of the app that `role` uses."""
    chosen = [endpoint for endpoint in endpoints() if role in RULES[endpoint.rule]]
    types: list[Any] = [ProblemDetails]
    types += [kind for endpoint in chosen for kind in (endpoint.answer, endpoint.body) if kind is not None]
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=REFERENCE)
    references = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in chosen:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLES[role],
            "version": VERSION,
            "description": "What this app can do through massar-gateway. Errors are RFC 9457 problems with a stable "
            "slug, in ar, fr or en by Accept-Language.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in chosen)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "examples": {
                slug: _problem_example(slug)
                for slug in dict.fromkeys(slug for endpoint in chosen for slug in problems_of(endpoint))
            },
            "securitySchemes": {
                "access_token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT (RFC 9068)"}
            },
        },
    }


def _operation(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [
            *_path_parameters(endpoint),
            *_query_parameters(endpoint),
            *_header_parameters(endpoint),
        ],
        "responses": _responses(endpoint, references),
        "security": [] if endpoint.rule is Rule.OPEN else [{"access_token": []}],
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": references[endpoint.body],
                    "example": endpoint.body_example,
                }
            },
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = [
        part.strip("{}") for part in endpoint.path.replace("/v1", "").replace(".", "").split("/") if part
    ]
    return "_".join([endpoint.method.lower(), *words]).replace("-", "_")


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": schema, "example": example}
        for name in names
        for schema, example in [_PATH_SCHEMAS[name]]
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": parameter.name,
            "in": "query",
            "required": False,
            "description": parameter.description,
            "schema": _QUERY_SCHEMAS[parameter.kind],
            "example": parameter.example,
        }
        for parameter in endpoint.query
    ]


def _header_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if endpoint.idempotent:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "description": "Makes repeating safe; scoped to the caller.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
                "example": "6f1d2c3b-0001",
            }
        )
    if endpoint.reads:
        found.append(
            {
                "name": "If-None-Match",
                "in": "header",
                "required": False,
                "description": "The ETag held; 304 when it still is the one.",
                "schema": {"type": "string", "pattern": '^"[A-Za-z0-9_-]{1,64}"$'},
            }
        )
        found.append(
            {
                "name": "Massar-Position",
                "in": "header",
                "required": False,
                "description": "From the answer to a write: what is read shows that write, or is 503 "
                "`position-not-reached`.",
                "schema": _POSITION_SCHEMA,
                "example": "1-50331976",
            }
        )
    return found


def problems_of(endpoint: Endpoint) -> tuple[str, ...]:
    """Every slug this endpoint may answer with, without `internal`."""
    slugs: list[str] = [*_ALWAYS]
    if endpoint.rule is not Rule.OPEN:
        slugs += _SIGNED_IN
        if len(RULES[endpoint.rule]) < len(TITLES):
            slugs.append("role-not-allowed")
    if endpoint.reads:
        slugs += _READ
    if endpoint.rule not in (Rule.OPEN, Rule.ANY_PRINCIPAL, Rule.TEACHER_SELF) or endpoint.with_facts:
        slugs += _RELATED
    if endpoint.reads:
        slugs.append("not-found")
    if endpoint.query:
        slugs.append("bad-request")
    if endpoint.body is not None:
        slugs += _BODY
    if endpoint.idempotent:
        slugs += _IDEMPOTENT
    if endpoint.path.startswith("/v1/auth"):
        slugs.append("read-only")
    return tuple(dict.fromkeys([*slugs, *endpoint.problems]))


def _responses(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    headers = {
        name: {"description": description, "schema": {"type": "string"}}
        for name, description in _STANDING_HEADERS.items()
    }
    success: dict[str, Any] = {
        "description": "Done." if endpoint.status == 204 else "As asked.",
        "headers": headers,
    }
    if endpoint.answer is not None:
        success["content"] = {
            "application/json": {"schema": references[endpoint.answer], "example": endpoint.example}
        }
    responses: dict[str, Any] = {str(endpoint.status): success}
    if endpoint.reads:
        success["headers"] = {
            "ETag": {"description": "Of these bytes.", "schema": {"type": "string"}},
            **headers,
        }
        responses["304"] = {"description": "The phone holds these bytes already."}
    if endpoint.idempotent:
        success["headers"] = {
            "Massar-Position": {
                "description": "Opaque; sent back with a read, it makes that read show this write.",
                "schema": _POSITION_SCHEMA,
            },
            **headers,
        }
    by_status: dict[int, list[str]] = {}
    for slug in problems_of(endpoint):
        by_status.setdefault(PROBLEMS[slug].status, []).append(slug)
    for status, slugs in sorted(by_status.items()):
        responses[str(status)] = _problem_response(slugs, references)
    return responses


def _problem_response(slugs: list[str], references: dict[Any, Any]) -> dict[str, Any]:
    return {
        "description": ", ".join(f"`{slug}`" for slug in slugs),
        "content": {
            PROBLEM_JSON: {
                "schema": references[ProblemDetails],
                "examples": {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs},
            }
        },
    }


def _problem_example(slug: str) -> dict[str, Any]:
    details = problem_details(
        slug, language=DEFAULT_LANGUAGE, base_url=BASE_URL, request_id="5f2c9a7e01b4-1c"
    )
    return {"value": msgspec.to_builtins(details)}


def _text(content: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"
