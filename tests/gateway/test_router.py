"""The router: every handler declared once, and reached where it says."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.router import HANDLERS, endpoints


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.fn.__qualname__)
def test_a_handler_is_reached_where_its_declaration_says(handler: Any) -> None:
    endpoint = handler.opt["endpoint"]
    assert {path.replace(":str", "") for path in handler.paths} == {endpoint.path}
    expected = {"GET", "HEAD"} if endpoint.method == "GET" else {endpoint.method}
    assert {str(method) for method in handler.http_methods} == expected


def test_no_two_handlers_declare_the_same() -> None:
    declared = [(endpoint.method, endpoint.path) for endpoint in endpoints()]
    assert len(declared) == len(set(declared)) == len(HANDLERS)
