"""Each peer checks the same tokens by the same key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.peers import setups, tools
from bench.peers.people import AUDIENCE, ISSUER

ORIGINS = {setups.MASSAR_H2: "48003"}
KEY, KEY_SET = b"-----BEGIN PUBLIC KEY-----", b'{"keys":[{"kid":"one"}]}'


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> setups.Ground:
    monkeypatch.setattr(tools, "program", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(tools, "envoy", lambda: "/usr/bin/envoy")
    return setups.Ground(
        folder=tmp_path,
        public_pem=KEY,
        jwks=KEY_SET,
        origin_port=48001,
        slow_origin_port=48002,
        valkey_url="redis://127.0.0.1:6379",
        gateway_port=48003,
        certificate=tmp_path / "certificate.pem",
    )


def test_every_peer_has_a_title() -> None:
    assert setups.TITLES.keys() == setups.SETUPS.keys()
    assert setups.CHECKS_NO_TOKEN.issubset(setups.SETUPS)


@pytest.mark.parametrize("name", setups.SETUPS)
def test_a_peer_listens_where_it_is_told_and_asks_its_own_origin(name: str, ground: setups.Ground) -> None:
    programs = setups.SETUPS[name](ground, 8101, 8102)
    told = told_to(programs, ground)
    origins = {"48001", "48002", "48003"}
    (its_own,) = {port for port in origins if port in told}
    assert "8101" in told
    assert its_own == ORIGINS.get(name, "48002" if name.endswith("-slow") else "48001")


def told_to(programs: list[setups.Program], ground: setups.Ground) -> str:
    words = " ".join(
        [word for program in programs for word in (*program.command, *program.environment.values())]
    )
    written = [path.read_text() for path in ground.folder.rglob("*") if path.is_file()]
    return " ".join([words, *written])


@pytest.mark.parametrize("name", setups.SETUPS)
def test_who_speaks_http2_is_told_so_and_given_the_certificate(name: str, ground: setups.Ground) -> None:
    told = told_to(setups.SETUPS[name](ground, 8101, 8102), ground)
    assert (str(ground.certificate) in told) is (name in setups.OVER_TLS)


@pytest.mark.parametrize(
    ("name", "asks_again"),
    [
        (setups.NGINX, False),
        (setups.NGINX_MIX, True),
        (setups.NGINX_H2, False),
        (setups.HAPROXY, False),
        (setups.HAPROXY_MIX, True),
        (setups.HAPROXY_H2, False),
    ],
)
def test_what_has_changed_is_asked_for_again_in_the_mix_alone(
    name: str, asks_again: bool, ground: setups.Ground
) -> None:
    told = told_to(setups.SETUPS[name](ground, 8101, 8102), ground)
    assert ("proxy_cache_bypass" in told or "unless { query" in told) is asks_again


@pytest.mark.parametrize("name", [name for name in setups.SETUPS if name.startswith("nginx")])
def test_nginx_asks_a_checker_that_holds_the_key(name: str, ground: setups.Ground) -> None:
    _, checker = setups.SETUPS[name](ground, 8101, 8102)
    (key,) = [value for field, value in checker.environment.items() if "KEY" in field]
    assert Path(key).read_bytes() == KEY
    text = (ground.folder / name / "nginx.conf").read_text()
    assert "auth_request /.verdict;" in text
    assert ("proxy_cache verdicts;" in text) is (name != setups.NGINX_ASKING)


@pytest.mark.parametrize("name", [name for name in setups.SETUPS if name.startswith("envoy")])
def test_envoy_is_given_the_key_set_and_what_a_token_must_say(name: str, ground: setups.Ground) -> None:
    setups.SETUPS[name](ground, 8101, 8102)
    text = (ground.folder / f"{name}.json").read_bytes()
    assert msgspec.json.decode(text)["static_resources"].keys() == {"listeners", "clusters"}
    assert KEY_SET in text.replace(b'\\"', b'"')
    assert ISSUER.encode() in text
    assert AUDIENCE.encode() in text
    assert (b"jwt_cache_size" in text) is (name != setups.ENVOY_CHECKING)


@pytest.mark.parametrize("name", [name for name in setups.SETUPS if name.startswith("haproxy")])
def test_haproxy_refuses_before_it_looks_into_its_cache(name: str, ground: setups.Ground) -> None:
    setups.SETUPS[name](ground, 8101, 8102)
    text = (ground.folder / name / "haproxy.cfg").read_text()
    assert text.rindex("http-request deny") < text.index("http-request cache-use")
    assert f"-m str {ISSUER} " in text
    assert f"-m str {AUDIENCE} " in text
