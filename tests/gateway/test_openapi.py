"""The documents of the three apps: what a role may do stands in its app's document, exactly, and truly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from auth.access import RULES, Rule
from auth.principal import APP_OF_ROLE, Role
from gateway.openapi import _PATH_SCHEMAS, _QUERY_SCHEMAS, document, documents, problems_of
from gateway.router import endpoints
from routes.endpoint import Endpoint, QueryParameter, path_names_something
from routes.home import HomePage
from routes.problems import PROBLEMS

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = {role: document(role) for role in Role}
ENDPOINTS = [pytest.param(one, id=f"{one.method} {one.path}") for one in endpoints()]
OPERATIONS = [
    pytest.param(role, path, method, operation, id=f"{role} {method} {path}")
    for role, found in DOCUMENTS.items()
    for path, operations in found["paths"].items()
    for method, operation in operations.items()
]


def fits(instance: Any, schema: dict[str, Any], role: Role) -> None:
    Draft202012Validator({**schema, "components": DOCUMENTS[role]["components"]}).validate(instance)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_stands_in_the_documents_of_the_roles_that_may_use_it(endpoint: Endpoint) -> None:
    for role, found in DOCUMENTS.items():
        stands = endpoint.method.lower() in found["paths"].get(endpoint.path, {})
        assert stands == (role in RULES[endpoint.rule]), role


def test_the_documents_hold_nothing_else() -> None:
    declared = {(one.path, one.method.lower()) for one in endpoints()}
    for found in DOCUMENTS.values():
        written = {(path, method) for path, operations in found["paths"].items() for method in operations}
        assert written <= declared


@pytest.mark.parametrize(("role", "path", "method", "operation"), OPERATIONS)
def test_examples_are_what_their_schemas_say(
    role: Role, path: str, method: str, operation: dict[str, Any]
) -> None:
    for parameter in operation["parameters"]:
        if "example" in parameter:
            fits(parameter["example"], parameter["schema"], role)
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            if "example" in media:
                fits(media["example"], media["schema"], role)
            for slug, reference in media.get("examples", {}).items():
                assert reference == {"$ref": f"#/components/examples/{slug}"}
                problem = DOCUMENTS[role]["components"]["examples"][slug]["value"]
                fits(problem, media["schema"], role)
                assert (problem["slug"], str(problem["status"])) == (slug, status)
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]
        fits(body["example"], body["schema"], role)
    assert operation["summary"]
    assert path.startswith("/")
    assert method in {"get", "put", "post", "delete"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_examples_are_what_the_handlers_take_and_answer(endpoint: Endpoint) -> None:
    if endpoint.body is not None:
        msgspec.json.decode(msgspec.json.encode(endpoint.body_example), type=endpoint.body)
    if endpoint.answer is not None and endpoint.answer is not HomePage:  # its raw parts are only ever written
        msgspec.json.decode(msgspec.json.encode(endpoint.example), type=endpoint.answer)
    for parameter in endpoint.query:
        assert parameter.accept(parameter.example) == parameter.example
    assert endpoint.read is None or endpoint.read.answer is endpoint.answer


@pytest.mark.parametrize("role", Role)
def test_operations_have_names_of_their_own_and_every_reference_leads_somewhere(role: Role) -> None:
    found = DOCUMENTS[role]
    names = [one["operationId"] for operations in found["paths"].values() for one in operations.values()]
    assert len(names) == len(set(names))
    text = msgspec.json.encode(found).decode()
    for kind, name in re.findall(r'"#/components/(\w+)/([^"]+)"', text):
        assert name in found["components"][kind]
    used = set(re.findall(r'"#/components/examples/([^"]+)"', text))
    assert used == set(found["components"]["examples"])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_slug_named_is_one_of_the_table(endpoint: Endpoint) -> None:
    slugs = problems_of(endpoint)
    assert set(slugs) <= set(PROBLEMS)
    assert len(slugs) == len(set(slugs))
    assert ("token-missing" in slugs) == (endpoint.rule is not Rule.OPEN)
    assert ("idempotency-key-required" in slugs) == endpoint.idempotent


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_documents_on_disk_are_these(name: str) -> None:
    assert (ROOT / "openapi" / name).read_text("utf-8") == documents()[name], "run `make openapi`"


def test_there_is_one_document_per_app() -> None:
    assert set(documents()) == {f"{app}.json" for app in APP_OF_ROLE.values()}


@given(data=st.data())
@pytest.mark.parametrize("kind", sorted(_QUERY_SCHEMAS))
def test_what_a_query_schema_allows_is_accepted(kind: str, data: st.DataObject) -> None:
    value = data.draw(_written(_QUERY_SCHEMAS[kind]))
    assert QueryParameter("x", kind, "", "").accept(value) == value


@given(data=st.data())
@pytest.mark.parametrize("name", sorted(_PATH_SCHEMAS))
def test_what_a_path_schema_allows_names_something(name: str, data: st.DataObject) -> None:
    schema, example = _PATH_SCHEMAS[name]
    assert path_names_something({name: data.draw(_written(schema))})
    assert path_names_something({name: example})


def _written(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("format") == "date":
        return st.dates().map(lambda day: day.isoformat())
    pattern = re.compile(schema["pattern"].removeprefix("^").removesuffix("$"), re.ASCII)
    return st.from_regex(pattern, fullmatch=True)
