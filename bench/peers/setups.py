"""Each peer set up to do the gateway's main job as well as it can: check an ES256 token, answer from what it holds.

Invariant: one worker each, keep-alive to phones and origin, one line of access log a request, every memo and cache large
enough for the run. A peer that cannot keep answers to signed-in people (Envoy) asks its origin every time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.peers import configs, tools
from bench.peers.checker import ORIGIN, PUBLIC_KEY, REDIS

NGINX, NGINX_ASKING = "nginx", "nginx-asking"
ENVOY, ENVOY_CHECKING = "envoy", "envoy-checking"
HAPROXY = "haproxy"
ENVOY_SLOW, NGINX_SLOW, HTTPX_SLOW = "envoy-slow", "nginx-slow", "httpx-slow"
FASTAPI, FASTAPI_MEMO = "fastapi", "fastapi-memo"
NGINX_MIX, HAPROXY_MIX = "nginx-mix", "haproxy-mix"
MASSAR_H2, NGINX_H2, ENVOY_H2, HAPROXY_H2 = "massar-h2", "nginx-h2", "envoy-h2", "haproxy-h2"
TITLES = {
    NGINX: "nginx, auth_request remembered, proxy_cache",
    NGINX_ASKING: "nginx, auth_request every time, proxy_cache",
    ENVOY: "Envoy, jwt_authn with its token cache, proxy",
    ENVOY_CHECKING: "Envoy, jwt_authn every time, proxy",
    HAPROXY: "HAProxy, jwt_verify, cache",
    FASTAPI: "FastAPI, PyJWT, redis-py",
    FASTAPI_MEMO: "FastAPI, PyJWT remembered, redis-py",
    ENVOY_SLOW: "Envoy, jwt_authn with its token cache, proxy",
    NGINX_SLOW: "nginx, auth_request remembered, proxy_cache",
    HTTPX_SLOW: "httpx's default transport, no token checked",
    NGINX_MIX: "nginx, auth_request remembered, proxy_cache",
    HAPROXY_MIX: "HAProxy, jwt_verify, cache",
    MASSAR_H2: "massar-gateway behind HAProxy that ends TLS",
    NGINX_H2: "nginx, auth_request remembered, proxy_cache",
    ENVOY_H2: "Envoy, jwt_authn with its token cache, proxy",
    HAPROXY_H2: "HAProxy, jwt_verify, cache",
}
ORIGIN_DELAY_MS = 1
# Forwards whatever comes, which makes it the quicker.
CHECKS_NO_TOKEN = frozenset({HTTPX_SLOW})
# Speak HTTP/2 over TLS to phones.
OVER_TLS = frozenset({MASSAR_H2, NGINX_H2, ENVOY_H2, HAPROXY_H2})
_ROOT = Path(__file__).parents[2]
_ENVOY_MEMO = {"jwt_cache_size": 250_000, "jwt_max_token_size": 4096}


class Ground(msgspec.Struct, frozen=True):
    """What all peers are given: a scratch folder, the tokens' key, a Valkey, and the ports of two origins.

    What the second one says comes after `ORIGIN_DELAY_MS` and may not be stored. `gateway_port`: where a worker of the
    gateway listens. `certificate`: with its key, in one file.
    """

    folder: Path
    public_pem: bytes
    jwks: bytes
    origin_port: int
    slow_origin_port: int
    valkey_url: str
    gateway_port: int
    certificate: Path


class Program(msgspec.Struct, frozen=True):
    """One process of a peer, and where it listens."""

    command: Sequence[str]
    port: int
    environment: dict[str, str] = {}


Setup = Callable[[Ground, int, int], list[Program]]


def nginx(ground: Ground, port: int, second_port: int) -> list[Program]:
    """auth_request whose verdict is kept by token until it runs out, and answers kept by path."""
    return _nginx(ground, port, second_port, name=NGINX)


def nginx_slow(ground: Ground, port: int, second_port: int) -> list[Program]:
    """The same in front of the slow origin."""
    return _nginx(ground, port, second_port, name=NGINX_SLOW, slow=True)


def nginx_asking(ground: Ground, port: int, second_port: int) -> list[Program]:
    """The same, asking for every request."""
    return _nginx(ground, port, second_port, name=NGINX_ASKING, remembered=False)


def nginx_mix(ground: Ground, port: int, second_port: int) -> list[Program]:
    """The same, for which what has a query has changed since it was kept."""
    return _nginx(ground, port, second_port, name=NGINX_MIX, some_changed=True)


def nginx_h2(ground: Ground, port: int, second_port: int) -> list[Program]:
    """The same, speaking HTTP/2 over TLS."""
    return _nginx(ground, port, second_port, name=NGINX_H2, certificate=ground.certificate)


def _nginx(
    ground: Ground,
    port: int,
    second_port: int,
    *,
    name: str,
    slow: bool = False,
    remembered: bool = True,
    certificate: Path | None = None,
    some_changed: bool = False,
) -> list[Program]:
    place = ground.folder / name
    place.mkdir()
    config = place / "nginx.conf"
    config.write_text(
        configs.nginx(
            place,
            port=port,
            origin_port=ground.slow_origin_port if slow else ground.origin_port,
            checker_port=second_port,
            remembered=remembered,
            certificate=certificate,
            some_changed=some_changed,
        )
    )
    key = _key_file(ground)
    checker = tools.python("granian", *_granian(second_port), "--factory", "bench.peers.checker:build")
    return [
        Program([tools.program("nginx"), "-c", str(config), "-p", str(place)], port),
        Program(checker, second_port, {"PYTHONPATH": str(_ROOT), PUBLIC_KEY: str(key)}),
    ]


def haproxy(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """jwt_verify on every request, and its cache."""
    return _haproxy(ground, port, name=HAPROXY)


def haproxy_mix(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same, for which what has a query has changed since it was kept."""
    return _haproxy(ground, port, name=HAPROXY_MIX, some_changed=True)


def haproxy_h2(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same, speaking HTTP/2 over TLS."""
    return _haproxy(ground, port, name=HAPROXY_H2, certificate=ground.certificate)


def _haproxy(
    ground: Ground, port: int, *, name: str, certificate: Path | None = None, some_changed: bool = False
) -> list[Program]:
    text = configs.haproxy(
        port=port,
        origin_port=ground.origin_port,
        key=_key_file(ground),
        certificate=certificate,
        some_changed=some_changed,
    )
    return [_run_haproxy(ground, port, name=name, text=text)]


def terminator(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """HAProxy that ends TLS before our worker, which speaks HTTP/1.1 alone. Source: docs/decisions/0007."""
    text = configs.terminator(port=port, gateway_port=ground.gateway_port, certificate=ground.certificate)
    return [_run_haproxy(ground, port, name=MASSAR_H2, text=text)]


def _run_haproxy(ground: Ground, port: int, *, name: str, text: str) -> Program:
    place = ground.folder / name
    place.mkdir()
    config = place / "haproxy.cfg"
    config.write_text(text)
    return Program([tools.program("haproxy"), "-db", "-f", str(config)], port)


def envoy(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """jwt_authn with its token cache; its HTTP cache refuses requests with Authorization, so it forwards."""
    return _envoy(ground, port, name=ENVOY)


def envoy_slow(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same in front of the slow origin."""
    return _envoy(ground, port, name=ENVOY_SLOW, slow=True)


def envoy_checking(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same without the token cache."""
    return _envoy(ground, port, name=ENVOY_CHECKING, remembered=False)


def envoy_h2(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same with it, speaking HTTP/2 over TLS."""
    return _envoy(ground, port, name=ENVOY_H2, certificate=ground.certificate)


def _envoy(
    ground: Ground,
    port: int,
    *,
    name: str,
    slow: bool = False,
    remembered: bool = True,
    certificate: Path | None = None,
) -> list[Program]:
    told = configs.envoy(
        port=port,
        origin_port=ground.slow_origin_port if slow else ground.origin_port,
        jwks=ground.jwks,
        cache=_ENVOY_MEMO if remembered else None,
        certificate=certificate,
    )
    config = ground.folder / f"{name}.json"
    config.write_bytes(msgspec.json.encode(told))
    command = [tools.envoy(), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return [Program(command, port)]


def fastapi(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """As it is usually written."""
    return _fastapi(ground, port, "plain")


def fastapi_memo(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same with a memo of verified tokens."""
    return _fastapi(ground, port, "with_memo")


def _fastapi(ground: Ground, port: int, factory: str) -> list[Program]:
    environment = {
        "PYTHONPATH": str(_ROOT),
        PUBLIC_KEY: str(_key_file(ground)),
        ORIGIN: f"http://127.0.0.1:{ground.origin_port}",
        REDIS: ground.valkey_url,
    }
    options = (
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--backlog", "1024", "--timeout-keep-alive", "75"),
    )
    command = tools.python("uvicorn", "--factory", f"bench.peers.fastapi_app:{factory}", *options)
    return [Program(command, port, environment)]


def httpx_slow(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """Nothing but forwarding to the slow origin, as httpx does it by itself."""
    environment = {"PYTHONPATH": str(_ROOT), ORIGIN: f"http://127.0.0.1:{ground.slow_origin_port}"}
    command = tools.python(
        "granian", *_granian(port), "--access-log", "--factory", "bench.peers.httpx_forwarder:build"
    )
    return [Program(command, port, environment)]


SETUPS: dict[str, Setup] = {
    NGINX: nginx,
    NGINX_ASKING: nginx_asking,
    ENVOY: envoy,
    ENVOY_CHECKING: envoy_checking,
    HAPROXY: haproxy,
    FASTAPI: fastapi,
    FASTAPI_MEMO: fastapi_memo,
    ENVOY_SLOW: envoy_slow,
    NGINX_SLOW: nginx_slow,
    HTTPX_SLOW: httpx_slow,
    NGINX_MIX: nginx_mix,
    HAPROXY_MIX: haproxy_mix,
    MASSAR_H2: terminator,
    NGINX_H2: nginx_h2,
    ENVOY_H2: envoy_h2,
    HAPROXY_H2: haproxy_h2,
}


def versions() -> dict[str, str]:
    """What the peers say of their versions. Raises: Missing."""
    return {
        "nginx": tools.version([tools.program("nginx"), "-v"]),
        "haproxy": tools.version([tools.program("haproxy"), "-v"]),
        "envoy": tools.version([tools.envoy(), "--version"]).rpartition("version: ")[2],
        "fastapi": tools.version(
            [
                sys.executable,
                "-c",
                "import fastapi, httpx, uvicorn as u; print(fastapi.__version__, 'uvicorn', u.__version__, 'httpx', httpx.__version__)",
            ]
        ),
        "wrk": tools.version([tools.program("wrk"), "-v"]),
        "h2load": tools.version([tools.program("h2load"), "--version"]),
    }


def _granian(port: int) -> list[str]:
    return [
        *("--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--loop", "uvloop", "--no-ws", "--backlog", "1024"),
    ]


def _key_file(ground: Ground) -> Path:
    path = ground.folder / "public.pem"
    path.write_bytes(ground.public_pem)
    return path
