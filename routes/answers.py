"""From bytes to HTTP answers: the headers every read and write shares, and conditional requests.

Invariant: personal answers say `private, no-cache` with a strong ETag, so that a phone revalidates with a cheap
304 and never hides a new mark.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
from litestar import Request, Response

from cache.coding import IDENTITY, choose, coded_etag
from routes.endpoint import (
    OUTCOME_KEY,
    Answered,
    BadRequest,
    CachedRead,
    Caller,
    Endpoint,
    Reads,
    parse_query,
    resolve,
)

CallerRequest: TypeAlias = Request[Caller, Any, Any]

JSON = "application/json"
VARY = "Accept-Encoding, Authorization"
PERSONAL = "private, no-cache"
NO_STORE = "no-store"
IDEMPOTENCY_KEY_CHARS_MAX = 128
# Names of declared fields: a message may quote the caller as well, and nothing of that comes back.
_POINTER = re.compile(r"(/[a-z_]{1,32}|/\d{1,4}|/\*){1,8}", re.ASCII)

encode = msgspec.json.Encoder().encode


class IdempotencyKeyRequired(Exception):
    """A write came without the key that makes repeating it safe."""

    slug = "idempotency-key-required"


class UnsupportedMediaType(Exception):
    """The body is not JSON."""

    slug = "unsupported-media-type"


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names `etag`, by weak comparison. Source: RFC 9110 §13.1.2."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(candidate.strip().removeprefix("W/") == etag for candidate in if_none_match.split(","))


class Selected(NamedTuple):
    """The answer to a read in the coding that suits its caller: 200 with the bytes, or 304 without."""

    status: int
    headers: dict[str, str]
    body: bytes


def select(answered: Answered, *, accept_encoding: bytes | None, if_none_match: str | None) -> Selected:
    """Choose coding and status. Source: RFC 9110 §12.5.3, §13.1.2: a tag is one coding's."""
    coded = dict(answered.coded)
    coding = choose(coded, accept_encoding)
    headers = _read_headers(answered, coding)
    if etag_matches(if_none_match, headers["etag"]):
        return Selected(304, headers, b"")
    if coding != IDENTITY:
        headers["content-encoding"] = coding
    return Selected(200, headers, coded.get(coding, answered.body))


def _read_headers(answered: Answered, coding: str) -> dict[str, str]:
    etag = coded_etag(answered.etag, coding).decode("ascii")
    headers = {"etag": etag, "cache-control": PERSONAL, "vary": VARY}
    if answered.cache_status:
        headers["cache-status"] = answered.cache_status
        headers["age"] = str(int(answered.age_s))
    if answered.last_modified is not None:
        headers["last-modified"] = answered.last_modified
    if answered.data_age_s is not None:
        headers["massar-data-age"] = str(int(answered.data_age_s))
    if answered.mode != "normal":
        headers["massar-mode"] = answered.mode
    return headers


def respond(request: CallerRequest, answered: Answered) -> Response[bytes]:
    """200 with the bytes, or 304 when the phone holds them already."""
    cast("dict[str, Any]", request.scope)[OUTCOME_KEY] = answered.outcome
    status, headers, body = select(
        answered,
        accept_encoding=",".join(request.headers.getall("accept-encoding", [])).encode("latin-1"),
        if_none_match=",".join(request.headers.getall("if-none-match", [])) or None,
    )
    return Response(body, status_code=status, headers=headers, media_type=JSON)


def composed(body: bytes, parts: Iterable[Answered]) -> Answered:
    """An answer put together from cached parts: its own ETag, the worst mode and the largest data age of them."""
    parts = list(parts)
    ages = [part.data_age_s for part in parts if part.data_age_s is not None]
    modes = [part.mode for part in parts if part.mode != "normal"]
    return Answered(
        body=body,
        etag=b'"' + hashlib.blake2b(body, digest_size=12).hexdigest().encode() + b'"',
        cache_status="",
        age_s=0.0,
        mode=modes[0] if modes else "normal",
        data_age_s=max(ages) if ages else None,
        outcome="composed",
    )


def no_store(payload: Any, *, status: int = 200) -> Response[bytes]:
    """An answer that nobody may keep: tokens, sessions, verdicts on writes."""
    return Response(encode(payload), status_code=status, headers={"cache-control": NO_STORE}, media_type=JSON)


async def read_parameters(
    endpoint: Endpoint, reads: Reads, *, caller: Caller, path: Mapping[str, str], query_string: bytes
) -> dict[str, str]:
    """The resolved parameters of a request. Raises: BadRequest."""
    query = parse_query(endpoint, query_string)
    needs_calendar = any(parameter.default is not None for parameter in endpoint.query)
    params = resolve(
        endpoint,
        path=path,
        query=query,
        calendar=await reads.calendar() if needs_calendar else None,
        principal=caller.principal,
        facts=caller.facts,
    )
    if params is None:
        raise BadRequest
    return params


async def parameters(request: CallerRequest, endpoint: Endpoint, reads: Reads) -> dict[str, str]:
    """The resolved parameters of this request. Raises: BadRequest."""
    return await read_parameters(
        endpoint,
        reads,
        caller=request.user,
        path={name: str(value) for name, value in request.path_params.items()},
        query_string=request.scope["query_string"],
    )


async def cached(request: CallerRequest, endpoint: Endpoint, reads: Reads) -> Response[bytes]:
    """Answer an endpoint that is one cached read."""
    read: CachedRead | None = endpoint.read
    if read is None:
        raise BadRequest
    return respond(request, await reads.read(read, await parameters(request, endpoint, reads)))


async def json_body(request: Request[Any, Any, Any]) -> bytes:
    """The request's body when it says it is JSON. Raises: UnsupportedMediaType."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise UnsupportedMediaType
    return await request.body()


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """The body as a Struct.

    Raises: BadRequest, its pointer naming the first part that does not fit (RFC 6901).
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        _, _, where = str(error).rpartition(" - at `$")
        raise BadRequest(_pointer(where)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("/") from None


def _pointer(where: str) -> str:
    path = where.rstrip("`").replace("[...]", "/*").replace("[", "/").replace("]", "").replace(".", "/")
    return path if _POINTER.fullmatch(path) else "/"


def idempotency_key(request: Request[Any, Any, Any]) -> str:
    """The `Idempotency-Key`, quoted or bare, at most IDEMPOTENCY_KEY_CHARS_MAX visible characters.

    Raises: IdempotencyKeyRequired, BadRequest.
    """
    given = request.headers.getall("idempotency-key", [])
    if not given:
        raise IdempotencyKeyRequired
    key = given[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key:
        raise IdempotencyKeyRequired
    if len(given) > 1 or len(key) > IDEMPOTENCY_KEY_CHARS_MAX or not _visible(key):
        raise BadRequest("Idempotency-Key")
    return key


def _visible(key: str) -> bool:
    return all(" " < character <= "~" and character not in '"\\' for character in key)
