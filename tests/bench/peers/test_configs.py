"""A scenario's difference is the only one between two configurations of the same program."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from bench.peers import configs

PEM = Path("/place/certificate.pem")


def nginx(*, certificate: Path | None = None, some_changed: bool = False, remembered: bool = True) -> str:
    return configs.nginx(
        Path("/place"),
        port=8101,
        origin_port=48001,
        checker_port=8102,
        remembered=remembered,
        certificate=certificate,
        some_changed=some_changed,
    )


def haproxy(*, certificate: Path | None = None, some_changed: bool = False) -> str:
    return configs.haproxy(
        port=8101,
        origin_port=48001,
        key=Path("/place/public.pem"),
        certificate=certificate,
        some_changed=some_changed,
    )


def envoy(*, certificate: Path | None = None) -> str:
    told = configs.envoy(port=8101, origin_port=48001, jwks=b"{}", cache=None, certificate=certificate)
    return msgspec.json.format(msgspec.json.encode(told)).decode()


def added(plain: str, other: str) -> list[str]:
    """The lines that only the other one has."""
    more = Counter(line.strip() for line in other.splitlines()) - Counter(
        line.strip() for line in plain.splitlines()
    )
    return sorted(line for line in more.elements() if line)


def test_tls_is_all_that_nginx_does_otherwise() -> None:
    assert added(nginx(), nginx(certificate=PEM)) == [
        "listen 127.0.0.1:8101 ssl http2 backlog=1024;",
        f"ssl_certificate {PEM}; ssl_certificate_key {PEM};",
    ]


def test_nginx_asks_again_for_what_has_a_query_alone() -> None:
    assert added(nginx(), nginx(some_changed=True)) == ["proxy_cache_bypass $is_args;"]


def test_a_verdict_is_kept_by_token() -> None:
    assert added(nginx(remembered=False), nginx()) == [
        "proxy_cache verdicts; proxy_cache_key $http_authorization;"
    ]


def test_tls_is_all_that_haproxy_does_otherwise() -> None:
    assert added(haproxy(), haproxy(certificate=PEM)) == [
        f"bind 127.0.0.1:8101 ssl crt {PEM} alpn h2,http/1.1"
    ]


def test_haproxy_asks_again_for_what_has_a_query_alone_and_stores_it() -> None:
    changed = haproxy(some_changed=True)
    assert added(haproxy(), changed) == ["http-request cache-use pages unless { query -m found }"]
    assert "http-response cache-store pages\n" in changed


def test_tls_is_all_that_envoy_does_otherwise() -> None:
    plain, other = (
        msgspec.json.decode(envoy(certificate=certificate).encode()) for certificate in (None, PEM)
    )
    (chain,) = other["static_resources"]["listeners"][0]["filter_chains"]
    socket = chain.pop("transport_socket")
    assert other == plain
    assert socket["typed_config"]["common_tls_context"]["alpn_protocols"] == ["h2", "http/1.1"]
    assert str(PEM) in str(socket)


def test_who_ends_tls_before_the_gateway_checks_stores_and_logs_nothing() -> None:
    text = configs.terminator(port=8101, gateway_port=48003, certificate=PEM)
    assert f"bind 127.0.0.1:8101 ssl crt {PEM} alpn h2,http/1.1" in text
    assert "server gateway 127.0.0.1:48003" in text
    assert not {"log", "cache", "http-request", "http-response"} & set(text.split())


@pytest.mark.parametrize("text", [haproxy(), nginx()], ids=["haproxy", "nginx"])
def test_every_request_has_its_line_of_log(text: str) -> None:
    assert "access_log /dev/stdout" in text or "option httplog" in text
