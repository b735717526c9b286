"""An accounts database for the tests of routes and gateway."""

from __future__ import annotations

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.auth.people import add_account
from tests.gateway.people import ROLES


class Accounts(msgspec.Struct, frozen=True):
    """Empty at the start of each test."""

    dsn: str
    engine: AsyncEngine

    async def login(self, subject: str) -> str:
        """Add an account of this person, and return its login."""
        login = f"{subject}@famille.example"
        await add_account(self.engine, login, role=ROLES[subject], subject=subject)
        return login
