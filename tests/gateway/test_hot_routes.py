"""The edge's table of routes: it finds what the router finds, or leaves it to the router."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from litestar import Litestar
from litestar.exceptions import HTTPException

from gateway.app import create_app
from gateway.hot_routes import SEGMENTS_MAX, HotRoutes
from gateway.router import endpoints
from routes.endpoint import Endpoint, path_names_something
from tests.gateway.people import CLASS, MATH, PUPIL
from tests.gateway.world import NOWHERE, SITES, settings_for

HOT = HotRoutes(endpoints())
WORDS = sorted({part for endpoint in endpoints() for part in endpoint.path.split("/") if "{" not in part})
SEGMENTS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from([PUPIL, CLASS, MATH, "1", "me", ".", "..", "%2e", "\u0665", " ", "{pupil_id}"]),
    st.text(st.characters(exclude_characters="/"), max_size=4),
)
EXAMPLES = [endpoint.path.replace("{", "").replace("}", "") for endpoint in endpoints()]
PATHS = st.one_of(
    st.lists(SEGMENTS, max_size=8).map(lambda parts: "/" + "/".join(parts)),
    st.tuples(st.sampled_from(EXAMPLES), SEGMENTS).map("/".join),
    st.sampled_from(EXAMPLES),
)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, keys_folder: Path) -> Any:
    """Litestar's own routing, of the gateway as it is built."""
    settings = settings_for(
        tmp_path_factory.mktemp("routes"), keys=keys_folder, urls=dict.fromkeys(SITES, NOWHERE)
    )
    inner: Any = create_app(settings)._inner
    assert isinstance(inner, Litestar)
    return inner.asgi_router


def routed(router: Any, path: str) -> tuple[Endpoint | None, dict[str, str]] | None:
    try:
        _, handler, _, params, _ = router.handle_routing(path=path, method="GET")
    except HTTPException:
        return None
    return handler.opt.get("endpoint"), dict(params)


@given(path=PATHS)
@example(path="/")
@example(path="")
@example(path="/v1/teachers/me/service")
@example(path=f"/v1/pupils/{PUPIL}/grades/grades")
def test_what_matches_here_is_routed_to_the_same_handler_with_the_same_parameters(
    router: Any, path: str
) -> None:
    found, theirs = HOT.match(path), routed(router, path)
    if found is not None:
        assert theirs == (found[0], found[2])
        assert found[1] is found[0].read
    elif theirs is not None and not path.endswith("/") and "//" not in path:
        endpoint, params = theirs
        assert endpoint is None or endpoint.read is None or not path_names_something(params)


@pytest.mark.parametrize(
    "endpoint", [one for one in endpoints() if one.read is not None], ids=lambda one: one.path
)
def test_every_cached_read_is_found_by_its_own_path(endpoint: Endpoint) -> None:
    assert endpoint.method == "GET"
    names = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    filled = {"pupil_id": PUPIL, "class_id": CLASS, "subject": MATH, "session": "2"}
    expected = (endpoint, endpoint.read, {name: filled[name] for name in names})
    assert HOT.match(endpoint.path.format(**filled)) == expected


@pytest.mark.parametrize(
    "endpoint", [one for one in endpoints() if one.read is None], ids=lambda one: one.path
)
def test_nothing_but_cached_reads_is_found(endpoint: Endpoint) -> None:
    assert HOT.match(endpoint.path) is None


def test_a_path_of_a_million_segments_costs_as_little_as_one_of_a_dozen() -> None:
    path = "/v1/pupils" + "/x" * 1_000_000
    began = time.process_time()
    assert HOT.match(path) is None
    assert SEGMENTS_MAX < 20
    assert time.process_time() - began < 0.1
