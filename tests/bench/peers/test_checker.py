"""The verdict that nginx asks for."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from auth import keys
from bench.peers import checker
from bench.peers.people import Issuer, Pupil


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    keys.generate(tmp_path)
    return Issuer({"MASSAR_ACCESS_KEYS_DIR": str(tmp_path)})


async def verdict(issuer: Issuer, authorization: str | None, place: Path, patch: pytest.MonkeyPatch) -> int:
    key = place / "public"
    key.write_bytes(issuer.public_pem)
    patch.setenv(checker.PUBLIC_KEY, str(key))
    headers = {} if authorization is None else {"authorization": authorization}
    transport = httpx.ASGITransport(app=checker.build())
    async with httpx.AsyncClient(transport=transport, base_url="http://checker") as client:
        return (await client.get("/", headers=headers)).status_code


async def test_a_token_of_the_gateway_holds(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, token),) = issuer.tokens([Pupil("a", "/")], 1)
    assert await verdict(issuer, f"Bearer {token}", tmp_path, monkeypatch) == 200


@pytest.mark.parametrize("wrong", ["none", "scheme", "signature"])
async def test_nothing_else_holds(
    wrong: str, issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, token),) = issuer.tokens([Pupil("a", "/")], 1)
    said = {
        "none": None,
        "scheme": f"Basic {token}",
        "signature": f"Bearer {token.rpartition('.')[0]}.{'a' * 86}",
    }[wrong]
    assert await verdict(issuer, said, tmp_path, monkeypatch) == 401
