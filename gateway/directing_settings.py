"""All that an operator can set for a site's director, read once at the start from `MASSAR_` variables.

Invariant: a site with a datacenter starts only with all that a take-over needs (its databases, its keys); the witness
has none of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from datacenters import sites
from datacenters.sites import Site
from gateway.settings import SettingsError, Text, read, setting, variable


class OwnGround(msgspec.Struct, frozen=True):
    """What stands at a site with a datacenter: both databases, the director's own key, the journal's."""

    records_dsn: str
    accounts_dsn: str
    key_file: Path
    journal_key_file: Path
    quarantine_dir: Path | None = None
    rejoin_command: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "OwnGround(…)"  # the addresses hold passwords


class DirectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of a director; docs/settings.md is made from this."""

    site: Annotated[Text, setting("The site this director stands in.", min_length=1)]
    sites: Annotated[
        dict[str, Site],
        setting(
            "All sites, the witness too, as JSON: name to `datacenter_url` (none at the witness), `private_url`."
        ),
    ]
    etcd_urls: Annotated[
        tuple[str, ...], setting("etcd's client addresses, this site's own first.", min_length=1)
    ]
    director_dsn: Annotated[
        Text,
        setting(
            "This site's school database. A secret; with a datacenter it and the next three are required."
        ),
    ] = ""
    director_accounts_dsn: Annotated[Text, setting("This site's accounts database. A secret.")] = ""
    director_key_file: Annotated[
        Path | None, setting("This director's Ed25519 key towards its datacenter (PEM): it replays with it.")
    ] = None
    journal_key_file: Annotated[
        Path | None, setting("Key file of the write journal, the gateways' own. A secret.")
    ] = None
    quarantine_dir: Annotated[
        Path | None, setting("Where a site that lost the role lists its orphans before it rejoins.")
    ] = None
    rejoin_command: Annotated[
        Text,
        setting(
            "Makes this site's PostgreSQL a standby again (docs/operating.md); not without the folder above."
        ),
    ] = ""
    director_folders: Annotated[
        tuple[Path, ...], setting("Folders watched for room beside PostgreSQL's own.")
    ] = ()

    def __post_init__(self) -> None:
        known = sites.with_datacenter(self.sites)
        if not known:
            raise SettingsError(f"{variable('sites')}: no site has a datacenter_url")
        if not self.director_dsn:
            if self.site in known:
                raise SettingsError(f"{variable('director_dsn')} is missing: this site has a datacenter")
            return
        if self.site not in known:
            raise SettingsError(
                f"{variable('director_dsn')}: {variable('sites')} names no datacenter at this site"
            )
        for name in ("director_accounts_dsn", "director_key_file", "journal_key_file"):
            if not getattr(self, name):
                raise SettingsError(f"{variable(name)} is missing")
        if self.rejoin_command and self.quarantine_dir is None:
            raise SettingsError(
                f"{variable('rejoin_command')}: not without {variable('quarantine_dir')}, where orphans are listed first"
            )

    def __repr__(self) -> str:
        return f"DirectorSettings(site={self.site!r})"  # the addresses hold passwords

    @property
    def ground(self) -> OwnGround | None:
        """What stands at this site; None at the witness."""
        if self.director_key_file is None or self.journal_key_file is None or not self.director_dsn:
            return None
        return OwnGround(
            records_dsn=self.director_dsn,
            accounts_dsn=self.director_accounts_dsn,
            key_file=self.director_key_file,
            journal_key_file=self.journal_key_file,
            quarantine_dir=self.quarantine_dir,
            rejoin_command=tuple(shlex.split(self.rejoin_command)),
        )


def read_director_settings(environment: Mapping[str, str]) -> DirectorSettings:
    """A director's settings from environment variables; empty ones count as absent.

    Raises: SettingsError, naming the variable.
    """
    return read(DirectorSettings, environment)
