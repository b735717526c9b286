"""All that an operator can set, read once at the start from `MASSAR_` variables.

Invariant: a wrong value stops the start and names the field; nothing below the entry points reads the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from datacenters import sites

PREFIX = "MASSAR_"
PORT_MAX = 65_535


class SettingsError(Exception):
    """A setting is missing or wrong; the text names it."""


class Site(sites.Site, frozen=True, forbid_unknown_fields=True):
    """One site that owns a datacenter, with the address of its accounts database (a secret)."""

    accounts_dsn: str = ""

    def __repr__(self) -> str:
        return f"Site(datacenter_url={self.datacenter_url!r})"


def setting(description: str, **bounds: Any) -> msgspec.Meta:
    """What docs/settings.md says of a field, and its bounds."""
    return msgspec.Meta(description=description, **bounds)


Text = str
Seconds = float


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of the gateway; docs/settings.md is made from this."""

    site: Annotated[Text, setting("The site this gateway stands in: a key of `sites`.", min_length=1)]
    sites: Annotated[
        dict[str, Site],
        setting(
            "The sites with a datacenter, as JSON: name to `datacenter_url`, `accounts_dsn`, `private_url`, `name` "
            "(ar, fr).",
            min_length=1,
            max_length=8,
        ),
    ]
    etcd_urls: Annotated[
        tuple[str, ...], setting("etcd's client addresses, this site's own first.", min_length=1)
    ]
    valkey_url: Annotated[
        Text,
        setting(
            "This site's Valkey (`redis://`, `rediss://`, `unix://`, `redis+sentinel://host,host/service`,"
            " `redis+cluster://host,host`); empty: tier 1 alone."
        ),
    ] = ""
    access_keys_dir: Annotated[Path, setting("Folder of the access tokens' signing keys.")]
    assertion_key_file: Annotated[Path, setting("This gateway's Ed25519 key towards datacenters (PEM).")]
    notice_keys_dir: Annotated[Path, setting("Folder of the datacenters' public notice keys.")]
    journal_key_file: Annotated[
        Path,
        setting("Key file of the write journal: one `[number ]hex` a line, the current one first. A secret."),
    ]
    seal_key_file: Annotated[
        Path,
        setting(
            "32 bytes as hex, one `[number ]hex` a line: the first seals cache entries, all open them; `names hex` names them."
        ),
    ]
    listen: Annotated[Text, setting("Public address as host:port.", pattern=r"^\S+:\d{1,5}$")] = (
        "127.0.0.1:8000"
    )
    private_listen: Annotated[
        Text,
        setting(
            "Private address (metrics, signed notices) as host:port; never public.", pattern=r"^\S+:\d{1,5}$"
        ),
    ] = "127.0.0.1:8001"
    workers: Annotated[int, setting("Worker processes.", ge=1, le=64)] = 1
    metrics_dir: Annotated[
        Path, setting("Scratch folder where workers share metrics; cleared of them at the start.")
    ]
    issuer: Annotated[Text, setting("`iss` of access tokens.")] = "https://massar.example"
    problem_base_url: Annotated[Text, setting("What problem types begin with.", pattern="/$")] = (
        "https://massar.example/problems/"
    )
    show_cache_status: Annotated[
        bool,
        setting(
            "Show `Cache-Status` and `Age` on personal answers; they would tell one guardian when the other looked."
        ),
    ] = False
    trusted_proxies: Annotated[
        tuple[str, ...],
        setting("Addresses whose `X-Forwarded-For` and `-Proto` are believed; none by default."),
    ] = ()
    rate_per_s: Annotated[
        int, setting("Requests a second that one principal may keep up, per worker.", ge=1)
    ] = 50
    rate_burst: Annotated[int, setting("Requests one principal may send at once, per worker.", ge=1)] = 200
    body_bytes_max: Annotated[int, setting("Largest request body.", ge=1024, le=8_388_608)] = 65_536
    body_wait_s: Annotated[Seconds, setting("How long a request body may take to arrive.", gt=0, le=60)] = (
        10.0
    )
    header_bytes_max: Annotated[int, setting("Largest sum of request headers.", ge=1024, le=65_536)] = 16_384
    target_bytes_max: Annotated[int, setting("Longest path and query.", ge=256, le=16_384)] = 2_048
    receiving_max: Annotated[int, setting("Request bodies one worker receives at once.", ge=1)] = 256
    in_flight_max: Annotated[
        int,
        setting(
            "Requests one worker works on at once, warm hits and those that wait for another one's answer aside.",
            ge=1,
        ),
    ] = 512
    memory_bytes_max: Annotated[int, setting("Bytes of tier 1 per worker.", ge=1_048_576)] = 67_108_864
    token_memo_max: Annotated[int, setting("Verified tokens remembered per worker.", ge=1)] = 200_000
    sign_ins_max: Annotated[int, setting("Password checks at once per worker.", ge=1, le=64)] = 2
    sign_ins_waiting_max: Annotated[int, setting("Password checks that may wait per worker.", ge=1)] = 64
    denial_silence_max_s: Annotated[
        Seconds, setting("How long personal reads go on when sign-outs cannot be heard.", ge=1)
    ] = 60.0
    school_sites_host: Annotated[
        Text,
        setting(
            "Host name of the schools' own web pages, which serves nothing else; empty: none.",
            pattern=r"^[A-Za-z0-9.-]*$",
        ),
    ] = ""
    school_sites_file: Annotated[
        Text,
        setting(
            "JSON file of their origins: GRESA code to `https://host` (or `http://`); nothing else is asked."
        ),
    ] = ""
    school_sites_valkey_url: Annotated[
        Text, setting("A Valkey for their pages, not the apps'; empty: each worker keeps its own.")
    ] = ""
    school_sites_bytes_max: Annotated[
        int, setting("Bytes of their pages kept per worker, without that Valkey.", ge=1_048_576)
    ] = 67_108_864
    drain_s: Annotated[
        Seconds, setting("Between `/readyz` failing and the listener closing.", ge=0, le=60)
    ] = 1.0
    stop_s: Annotated[int, setting("Longest wait for requests in flight at the stop.", ge=1, le=120)] = 10
    die_with_parent: Annotated[
        bool, setting("End when the process that started this one ends (sandbox).")
    ] = False

    def __post_init__(self) -> None:
        if self.site not in self.sites:
            raise SettingsError(f"{PREFIX}SITE: {self.site!r} is not among {PREFIX}SITES")
        if not sites.with_datacenter(self.sites):
            raise SettingsError(f"{PREFIX}SITES: no site has a datacenter_url")
        if bool(self.school_sites_host) != bool(self.school_sites_file):
            raise SettingsError(f"{PREFIX}SCHOOL_SITES_HOST and {PREFIX}SCHOOL_SITES_FILE need each other")
        for name in ("listen", "private_listen"):
            if address(getattr(self, name))[1] > PORT_MAX:
                raise SettingsError(f"{variable(name)} is wrong: a port is at most {PORT_MAX}")


_LISTS = frozenset({"etcd_urls", "trusted_proxies", "director_folders"})
Kind = TypeVar("Kind", bound=msgspec.Struct)


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The gateway's settings from environment variables; empty ones count as absent.

    Raises: SettingsError, naming the variable.
    """
    return read(Settings, environment)


def read(kind: type[Kind], environment: Mapping[str, str]) -> Kind:
    """Any struct of settings, each field from the variable of its name.

    Raises: SettingsError, naming the variable.
    """
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        text = environment.get(variable(field.name), "")
        if text != "":
            given[field.name] = _convert(field, _parse(field.name, text))
        elif field.required:
            raise SettingsError(f"{variable(field.name)} is missing")
    return kind(**given)


def _parse(name: str, text: str) -> Any:
    if name in _LISTS:
        return [item.strip() for item in text.split(",") if item.strip()]
    if name == "sites":
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise SettingsError(f"{variable(name)} is not JSON") from None
    return text


def _convert(field: msgspec.structs.FieldInfo, value: Any) -> Any:
    try:
        return msgspec.convert(
            value, field.type, strict=False, dec_hook=lambda kind, text: kind(text) if kind is Path else text
        )
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        reason = str(error).partition(" - at")[0]
        raise SettingsError(f"{variable(field.name)} is wrong: {reason}") from None


def address(listen: str) -> tuple[str, int]:
    """Host and port of a `host:port` setting."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)
