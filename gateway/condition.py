"""What the status routes tell: the mode, the declared datacenter, whether this worker can serve.

Invariant: ready means able to answer something; neither a datacenter nor Valkey being away makes it false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from auth.keys import SigningKeys
from auth.principal import Name
from datacenters.directory import WRITING_MODES, Directory
from gateway.settings import Site
from routes.status import Mode, Status

WRITES_RETRY_AFTER_S = 2
DRAINING_FILE = "draining"


class Condition:
    """The gateway's condition, as `routes.status` asks for it."""

    def __init__(
        self,
        directory: Directory,
        keys: SigningKeys,
        sites: Mapping[str, Site],
        *,
        mode: Callable[[], str],
        metrics_dir: Path,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._sites = sites
        self._mode = mode
        self._draining = metrics_dir / DRAINING_FILE

    def status(self) -> Status:
        """The mode as it is now."""
        found = self._mode()
        # With etcd silent the apps meet what they meet in read-only: reads go on, writes wait.
        mode = cast("Mode", "read-only" if found == "degraded" else found)
        site = self._sites.get(self._directory.active or "")
        name = site.name if site is not None else None
        return Status(
            mode=mode,
            datacenter=Name(ar=name.ar, fr=name.fr) if name is not None else Name(ar="", fr=""),
            epoch=self._directory.epoch,
            retry_after_s=None if mode in WRITING_MODES else WRITES_RETRY_AFTER_S,
        )

    def ready(self) -> bool:
        """False while draining, and until the record was read once."""
        return self._directory.record is not None and not self._draining.exists()

    def jwks(self) -> bytes:
        """The public keys of access tokens."""
        return self._keys.jwks()
