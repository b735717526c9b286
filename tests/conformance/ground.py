"""What the contract suite stands on: a datacenter somewhere, the keys to speak to it, and the document it obeys.

The suite is written against `Ground` alone. Where `MASSAR_CONTRACT_URL` is set it speaks to that datacenter (which
must hold the rows of seed.py) at `MASSAR_CONTRACT_EPOCH`, with the keys in the folder `MASSAR_CONTRACT_KEYS`; what
needs a hand on the database is shown on the sandbox datacenter alone, which the suite otherwise starts by itself.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import jsonschema_rs
import msgspec
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters.assertion import sign
from tests.conformance.seed import TEACHER

DOCUMENT = Path(__file__).parents[2] / "openapi" / "datacenter.yaml"
SITE = "rabat"
EPOCH = 7
HEARD = "UPDATE fence SET heard_at = clock_timestamp() WHERE id = 1"


class Contract:
    """The document, and answers checked against it."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
        self._paths = {
            re.compile(re.sub(r"\{\w+\}", "[^/]+", template)): item
            for template, item in self.document["paths"].items()
        }

    def check(self, answer: httpx.Response) -> None:
        """Fail unless status, headers, media type and body are what the document says for this operation."""
        request = answer.request
        item = next(item for path, item in self._paths.items() if path.fullmatch(request.url.path))
        operation = item[request.method.lower()]
        said = self.resolve(operation["responses"].get(str(answer.status_code)))
        assert said, f"{request.method} {request.url.path}: undocumented status {answer.status_code}"
        for name, header in said.get("headers", {}).items():
            spec = self.resolve(header)
            assert name in answer.headers or not spec.get("required"), f"{name} is missing"
            if name in answer.headers:
                text = answer.headers[name]
                kind = spec["schema"].get("type")
                value = int(text) if kind == "integer" else float(text) if kind == "number" else text
                self.validate(spec["schema"], value)
        content = said.get("content", {})
        if not content:
            assert answer.content == b""
            return
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in content, f"undocumented media type {media_type}"
        self.validate(content[media_type]["schema"], answer.json())

    def validate(self, schema: Mapping[str, Any], value: Any) -> None:
        """Fail unless `value` is valid against a schema of the document."""
        whole = {**schema, "components": self.document["components"]}
        jsonschema_rs.validator_for(whole, validate_formats=True).validate(value)

    def resolve(self, node: Any) -> dict[str, Any]:
        while node and "$ref" in node:
            target: Any = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return cast("dict[str, Any]", node or {})


class Ground:
    """A datacenter that answers at `url`, and how a gateway speaks to it; checks every answer against the contract."""

    def __init__(
        self,
        *,
        url: str,
        key: Ed25519PrivateKey,
        contract: Contract,
        dsn: str | None,
        site: str = SITE,
        sender: str = SITE,
        epoch: int = EPOCH,
    ) -> None:
        self.url = url
        self.key = key
        self.contract = contract
        self.dsn = dsn
        self.site = site
        self.sender = sender
        self.epoch = epoch
        self.client = httpx.AsyncClient(base_url=url, timeout=10, trust_env=False)

    async def sql(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Run a statement in the school records, as the ministry's own programs would."""
        assert self.dsn is not None, (
            "this promise needs a hand on the database: deselect it for a datacenter elsewhere"
        )
        connection = await asyncpg.connect(self.dsn, ssl=False)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def hear(self) -> None:
        """Play the director's sign of life; elsewhere the datacenter's own director gives it."""
        if self.dsn is not None:
            await self.sql(HEARD)

    def assertion(self, method: str, target: str, body: bytes = b"", /, **changed: Any) -> str:
        """A valid assertion for the request, but for what is changed."""
        claims: dict[str, Any] = {
            "key": self.key,
            "site": self.sender,
            "audience": f"datacenter:{self.site}",
            "subject": "-",
            "role": "gateway",
            "method": method,
            "target": target,
            "body": body,
            "epoch": self.epoch,
            "now": time.time(),
        }
        return sign(**{**claims, **changed})

    async def get(
        self, target: str, *, headers: Mapping[str, str] | None = None, epoch: int | None = None
    ) -> httpx.Response:
        """Read as a gateway does."""
        now = self.epoch if epoch is None else epoch
        signed = {"Massar-Epoch": str(now), "Massar-Assertion": self.assertion("GET", target, epoch=now)}
        answer = await self.client.get(target, headers={**signed, **(headers or {})})
        self.contract.check(answer)
        return answer

    async def write(
        self,
        method: str,
        target: str,
        payload: Any,
        *,
        key: str | None = None,
        subject: str = TEACHER,
        role: str = "teacher",
        epoch: int | None = None,
        heard: bool = True,
        headers: Mapping[str, str] | None = None,
        asserted: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """Write as a gateway does for a teacher; `heard` plays the director's sign of life.

        `headers` are sent besides, and `asserted` changes the assertion.
        """
        if heard:
            await self.hear()
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        now = self.epoch if epoch is None else epoch
        claims = {"epoch": now, "subject": subject, "role": role, **(asserted or {})}
        token = self.assertion(method, target, body, **claims)
        signed = {
            "Massar-Epoch": str(now),
            "Massar-Assertion": token,
            "Content-Type": "application/json",
            "Idempotency-Key": key or secrets.token_hex(8),
        }
        answer = await self.client.request(
            method, target, content=body, headers={**signed, **(headers or {})}
        )
        self.contract.check(answer)
        return answer
