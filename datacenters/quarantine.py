"""The reports of a site's rejoins, kept at the site alone: which writes it executed that the active history may lack.

Whoever resolves an orphan needs to know whose write it was, and after the rewind nothing else does: a report holds the
opaque id of the person, route, key and digest, never what was written. Counts alone leave the site.

Invariant: a report is readable by its owner alone and is replaced whole or not at all; the one that is not finished
says that a rejoin is under way, so that whoever begins again goes on from it.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from datacenters.fenced import Report

REPORT_BYTES_MAX = 64 * 1024 * 1024
_decoder = msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()


class Quarantine:
    """A folder of reports, the newest of which counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> Report | None:
        """The latest report, finished or not.

        Raises: OSError, msgspec.MsgspecError.
        """
        path = max(self._folder.glob("rejoin-*.json"), default=None)
        if path is None:
            return None
        if path.stat().st_size > REPORT_BYTES_MAX:
            raise OSError(f"{path}: too large for a report")
        return _decoder.decode(path.read_bytes())

    def write(self, report: Report) -> Path:
        """Keep the report, durably, in the place of an earlier one of the same rejoin.

        Raises: OSError.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"rejoin-{report.epoch:010d}-{round(report.listed_at * 1000):013d}.json"
        partial = path.with_suffix(f".{os.getpid()}")
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.format(_encoder.encode(report), indent=1))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return path
