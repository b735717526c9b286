"""Each peer set up to do the gateway's main job as well as it can: check an ES256 token, answer from what it holds.

Invariant: one worker each, keep-alive to phones and origin, one line of access log a request, every memo and cache large
enough for the run. A peer that cannot keep answers to signed-in people (Envoy) asks its origin every time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.peers import tools
from bench.peers.checker import ORIGIN, PUBLIC_KEY, REDIS
from bench.peers.people import AUDIENCE, ISSUER

NGINX, NGINX_ASKING = "nginx", "nginx-asking"
ENVOY, ENVOY_CHECKING = "envoy", "envoy-checking"
HAPROXY = "haproxy"
ENVOY_SLOW, NGINX_SLOW, HTTPX_SLOW = "envoy-slow", "nginx-slow", "httpx-slow"
FASTAPI, FASTAPI_MEMO = "fastapi", "fastapi-memo"
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
}
ORIGIN_DELAY_MS = 1
# Forwards whatever comes, which makes it the quicker.
CHECKS_NO_TOKEN = frozenset({HTTPX_SLOW})
_ROOT = Path(__file__).parents[2]
_MEMORY = "64m"
_ENVOY_MEMO = {"jwt_cache_size": 250_000, "jwt_max_token_size": 4096}


class Ground(msgspec.Struct, frozen=True):
    """What all peers are given: a scratch folder, the tokens' key, a Valkey, and the ports of two origins.

    What the second one says comes after `ORIGIN_DELAY_MS` and may not be stored.
    """

    folder: Path
    public_pem: bytes
    jwks: bytes
    origin_port: int
    slow_origin_port: int
    valkey_url: str


class Program(msgspec.Struct, frozen=True):
    """One process of a peer, and where it listens."""

    command: Sequence[str]
    port: int
    environment: dict[str, str] = {}


Setup = Callable[[Ground, int, int], list[Program]]


def nginx(ground: Ground, port: int, second_port: int) -> list[Program]:
    """auth_request whose verdict is kept by token until it runs out, and answers kept by path."""
    return _nginx(ground, port, second_port, name=NGINX, remembered=True, origin_port=ground.origin_port)


def nginx_slow(ground: Ground, port: int, second_port: int) -> list[Program]:
    """The same in front of the slow origin."""
    return _nginx(
        ground, port, second_port, name=NGINX_SLOW, remembered=True, origin_port=ground.slow_origin_port
    )


def nginx_asking(ground: Ground, port: int, second_port: int) -> list[Program]:
    """The same, asking for every request."""
    return _nginx(
        ground, port, second_port, name=NGINX_ASKING, remembered=False, origin_port=ground.origin_port
    )


def _nginx(
    ground: Ground, port: int, second_port: int, *, name: str, remembered: bool, origin_port: int
) -> list[Program]:
    place = ground.folder / name
    place.mkdir()
    memo = "proxy_cache verdicts; proxy_cache_key $http_authorization;" if remembered else ""
    config = place / "nginx.conf"
    config.write_text(f"""
user root; worker_processes 1; daemon off; pid {place}/pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log /dev/stdout combined buffer=64k flush=1s; default_type application/json;
  sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=5000 inactive=10m;
  client_body_temp_path {place}/bodies; proxy_temp_path {place}/proxied; fastcgi_temp_path {place}/f;
  uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  proxy_cache_path {place}/verdicts levels=1:2 keys_zone=verdicts:{_MEMORY} inactive=10m use_temp_path=off;
  proxy_cache_path {place}/pages levels=1:2 keys_zone=pages:{_MEMORY} inactive=60m use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 64; }}
  upstream checker {{ server 127.0.0.1:{second_port}; keepalive 64; }}
  proxy_http_version 1.1; proxy_set_header Connection "";
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      auth_request /.verdict;
      proxy_pass http://origin;
      proxy_cache pages; proxy_cache_key $uri$is_args$args; proxy_cache_lock on; proxy_cache_revalidate on;
      add_header Request-Id $request_id;
      add_header Cache-Status $upstream_cache_status;
    }}
    location = /.verdict {{
      internal; proxy_pass http://checker/; proxy_pass_request_body off; proxy_set_header Content-Length "";
      {memo}
    }}
  }}
}}
""")
    key = _key_file(ground)
    checker = tools.python("granian", *_granian(second_port), "--factory", "bench.peers.checker:build")
    return [
        Program([tools.program("nginx"), "-c", str(config), "-p", str(place)], port),
        Program(checker, second_port, {"PYTHONPATH": str(_ROOT), PUBLIC_KEY: str(key)}),
    ]


def haproxy(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """jwt_verify on every request, since it has no memo; the token is taken off before the cache is asked."""
    place = ground.folder / HAPROXY
    place.mkdir()
    config = place / "haproxy.cfg"
    config.write_text(f"""
global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option http-keep-alive
  timeout connect 1s
  timeout client 60s
  timeout server 10s
  timeout http-keep-alive 60s
  http-reuse always
cache pages
  total-max-size 512
  max-object-size 200000
  max-age 3600
frontend phones
  bind 127.0.0.1:{port}
  unique-id-format %{{+X}}o\\ %ci:%cp_%Ts_%rt
  unique-id-header Request-Id
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
  http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
  http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{_key_file(ground)}") 1 }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str {AUDIENCE} }}
  http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int le 0 }}
  http-request del-header authorization
  http-request cache-use pages
  http-response cache-store pages
  default_backend origin
backend origin
  server origin 127.0.0.1:{ground.origin_port}
""")
    return [Program([tools.program("haproxy"), "-db", "-f", str(config)], port)]


def envoy(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """jwt_authn with its token cache; its HTTP cache refuses requests with Authorization, so it forwards."""
    return _envoy(ground, port, name=ENVOY, cache=_ENVOY_MEMO, origin_port=ground.origin_port)


def envoy_slow(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same in front of the slow origin."""
    return _envoy(ground, port, name=ENVOY_SLOW, cache=_ENVOY_MEMO, origin_port=ground.slow_origin_port)


def envoy_checking(ground: Ground, port: int, _second_port: int) -> list[Program]:
    """The same without the token cache."""
    return _envoy(ground, port, name=ENVOY_CHECKING, cache=None, origin_port=ground.origin_port)


def _envoy(
    ground: Ground, port: int, *, name: str, cache: dict[str, int] | None, origin_port: int
) -> list[Program]:
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": ground.jwks.decode()},
        "forward": True,
        **({"jwt_cache_config": cache} if cache else {}),
    }
    authn = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"massar": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "massar"}}],
    }
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    connections = {
        "@type": (
            "type.googleapis.com/"
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": "phones",
        "always_set_request_id_in_response": True,
        "access_log": [
            {
                "name": "stdout",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
                },
            }
        ],
        "http_filters": [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": authn},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
                }
            ]
        },
    }
    listener = {
        "address": _address(port),
        "filter_chains": [
            {
                "filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
                ]
            }
        ],
    }
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(origin_port)}}]}],
        },
    }
    config = ground.folder / f"{name}.json"
    config.write_bytes(
        msgspec.json.encode({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
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
    }


def _granian(port: int) -> list[str]:
    return [
        *("--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--loop", "uvloop", "--no-ws", "--backlog", "1024"),
    ]


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _key_file(ground: Ground) -> Path:
    path = ground.folder / "public.pem"
    path.write_bytes(ground.public_pem)
    return path
