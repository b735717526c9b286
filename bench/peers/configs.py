"""The configurations of nginx, HAProxy and Envoy, as these programs read them.

Invariant: what a scenario needs otherwise is one named difference; all else is the same in every scenario.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.peers.people import AUDIENCE, ISSUER

_MEMORY = "64m"
_TYPES = "type.googleapis.com/envoy.extensions"
# In the order in which a server takes them.
_ALPN = ("h2", "http/1.1")


def nginx(
    place: Path,
    *,
    port: int,
    origin_port: int,
    checker_port: int,
    remembered: bool,
    certificate: Path | None = None,
    some_changed: bool = False,
) -> str:
    """auth_request and proxy_cache. `remembered`: a verdict is kept by token until it runs out.

    `certificate`: TLS with that file, which has the key too, and HTTP/2. `some_changed`: what has a query is asked of the
    origin and its answer kept anew.
    """
    memo = "proxy_cache verdicts; proxy_cache_key $http_authorization;" if remembered else ""
    bypass = "proxy_cache_bypass $is_args;" if some_changed else ""
    tls = "" if certificate is None else f"ssl_certificate {certificate}; ssl_certificate_key {certificate};"
    return f"""
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
  upstream checker {{ server 127.0.0.1:{checker_port}; keepalive 64; }}
  proxy_http_version 1.1; proxy_set_header Connection "";
  server {{
    listen 127.0.0.1:{port}{" ssl http2" if certificate else ""} backlog=1024;
    {tls}
    location / {{
      auth_request /.verdict;
      proxy_pass http://origin;
      proxy_cache pages; proxy_cache_key $uri$is_args$args; proxy_cache_lock on; proxy_cache_revalidate on;
      {bypass}
      add_header Request-Id $request_id;
      add_header Cache-Status $upstream_cache_status;
    }}
    location = /.verdict {{
      internal; proxy_pass http://checker/; proxy_pass_request_body off; proxy_set_header Content-Length "";
      {memo}
    }}
  }}
}}
"""


def haproxy(
    *, port: int, origin_port: int, key: Path, certificate: Path | None = None, some_changed: bool = False
) -> str:
    """jwt_verify on every request, since it has no memo; the token is taken off before the cache is asked.

    `certificate` and `some_changed` as for `nginx`.
    """
    unless = " unless { query -m found }" if some_changed else ""
    return f"""{_haproxy_defaults(logged=True)}
cache pages
  total-max-size 512
  max-object-size 200000
  max-age 3600
frontend phones
  {_haproxy_bind(port, certificate)}
  unique-id-format %{{+X}}o\\ %ci:%cp_%Ts_%rt
  unique-id-header Request-Id
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
  http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
  http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{key}") 1 }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str {AUDIENCE} }}
  http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int le 0 }}
  http-request del-header authorization
  http-request cache-use pages{unless}
  http-response cache-store pages
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin_port}
"""


def terminator(*, port: int, gateway_port: int, certificate: Path) -> str:
    """HAProxy that ends TLS and HTTP/2 before a worker of the gateway, and does nothing else; the worker writes the log."""
    return f"""{_haproxy_defaults(logged=False)}
frontend phones
  {_haproxy_bind(port, certificate)}
  default_backend gateway
backend gateway
  server gateway 127.0.0.1:{gateway_port}
"""


def _haproxy_defaults(*, logged: bool) -> str:
    return f"""
global
  nbthread 1
  maxconn 4096
  {"log stdout format raw local0" if logged else ""}
defaults
  mode http
  {"log global" if logged else ""}
  {"option httplog" if logged else ""}
  option http-keep-alive
  timeout connect 1s
  timeout client 60s
  timeout server 10s
  timeout http-keep-alive 60s
  http-reuse always"""


def _haproxy_bind(port: int, certificate: Path | None) -> str:
    tls = "" if certificate is None else f" ssl crt {certificate} alpn {','.join(_ALPN)}"
    return f"bind 127.0.0.1:{port}{tls}"


def envoy(
    *,
    port: int,
    origin_port: int,
    jwks: bytes,
    cache: Mapping[str, int] | None,
    certificate: Path | None = None,
) -> dict[str, Any]:
    """jwt_authn, with `cache` as its token cache, and the router; `certificate` as for `nginx`."""
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": jwks.decode()},
        "forward": True,
        **({"jwt_cache_config": cache} if cache else {}),
    }
    authn = {
        "@type": f"{_TYPES}.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"massar": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "massar"}}],
    }
    listener = {
        "address": _address(port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connections(authn),
                    }
                ],
                **({"transport_socket": _tls(certificate)} if certificate else {}),
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
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _connections(authn: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "phones",
        "always_set_request_id_in_response": True,
        "access_log": [
            {
                "name": "stdout",
                "typed_config": {"@type": f"{_TYPES}.access_loggers.stream.v3.StdoutAccessLog"},
            }
        ],
        "http_filters": [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": authn},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            },
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


def _tls(certificate: Path) -> dict[str, Any]:
    file = {"filename": str(certificate)}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": list(_ALPN),
                "tls_certificates": [{"certificate_chain": file, "private_key": file}],
            },
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
