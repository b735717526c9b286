"""Right requests of every route, so that a test can change one thing about them."""

from __future__ import annotations

import httpx

from auth.access import RULES, Rule
from auth.principal import Role
from gateway.router import endpoints
from routes.endpoint import Endpoint
from tests.journeys.lines import Line
from tests.journeys.people import NOBODY, Mint, People

BY_ROUTE = {f"{endpoint.method} {endpoint.path}": endpoint for endpoint in endpoints()}


class Asker:
    """Makes a right request of any route, for somebody who may; a test changes one thing about it."""

    def __init__(self, people: People, mint: Mint) -> None:
        self._people = people
        self._mint = mint

    def token(self, rule: Rule) -> str | None:
        """Somebody who may."""
        people = self._people
        who = {Role.STUDENT: people.student, Role.PARENT: people.parent, Role.TEACHER: people.teacher}
        role = next(iter(RULES[rule]))
        return None if rule is Rule.OPEN else self._mint.token(role, who[role].id)

    def path(self, endpoint: Endpoint) -> str:
        """The path about the sample people."""
        path = endpoint.path
        values = {
            "pupil_id": self._people.student.id,
            "class_id": self._people.teacher.class_id,
            "subject": self._people.teacher.subject,
            "session": "1",
            "id": NOBODY,
            "date": "2026-11-20",
            "slot": "0830",
        }
        for name, value in values.items():
            path = path.replace("{" + name + "}", value)
        return path

    async def ask(
        self, line: Line, route: str, *, method: str = "", query: str = "", **headers: str
    ) -> httpx.Response:
        """Ask a route, by another method or with a query or headers."""
        endpoint = BY_ROUTE[route]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await line.ask(
            method or endpoint.method,
            self.path(endpoint) + query,
            token=self.token(endpoint.rule),
            headers=named,
        )

    async def send(self, line: Line, route: str, content: bytes, content_type: str | None) -> httpx.Response:
        """Send bytes to a route that takes a body."""
        endpoint = BY_ROUTE[route]
        headers = {"idempotency-key": "http-rules"} | ({"content-type": content_type} if content_type else {})
        return await line.ask(
            endpoint.method,
            self.path(endpoint),
            token=self.token(endpoint.rule),
            content=content,
            headers=headers,
        )
