"""The keys are what their readers expect, and closed to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from auth.keys import SigningKeys
from cache.sealing import SealingKeys
from datacenters import sender_keys
from datacenters.journal_seal import JournalSeal
from sandbox import keys


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("country") / "keys"
    keys.make(folder, sites=("rabat", "marrakech"))
    return folder


def test_tokens_can_be_signed(made: Path) -> None:
    assert SigningKeys.load(made / keys.ACCESS).signing_kid


@pytest.mark.parametrize("kind", ["gateway", "datacenter", "director"])
def test_every_site_has_a_pair_that_fits(made: Path, kind: str) -> None:
    public = sender_keys.read_public_keys(made, kind=kind)
    assert set(public) == {"rabat", "marrakech"}
    for site, key in public.items():
        private = sender_keys.read_private_key(made / f"{kind}-{site}.pem")
        key.verify(private.sign(b"text"), b"text")


def test_the_secrets_are_hex_of_32_bytes_and_each_another(made: Path) -> None:
    words = [*(made / keys.SEAL_KEY).read_text().split(), *(made / keys.JOURNAL_KEY).read_text().split()]
    assert (words[0], words[2]) == ("0", "names")
    secrets = {bytes.fromhex(word) for word in (words[1], words[3], words[4])}
    assert [len(secret) for secret in secrets] == [32, 32, 32]


def test_the_cache_has_a_key_and_a_secret_for_names_that_outlives_it(made: Path) -> None:
    ring = SealingKeys.parse((made / keys.SEAL_KEY).read_text())
    assert (ring.current, ring.names is not None) == (0, True)


def test_journal_records_can_be_sealed(made: Path) -> None:
    seal = JournalSeal.load(made / keys.JOURNAL_KEY)
    assert seal.open(seal.seal(b"text", b"name"), b"name") == b"text"


def test_all_is_closed_to_others(made: Path) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in [made, *made.rglob("*")])


def test_a_secret_never_replaces_a_file(made: Path) -> None:
    with pytest.raises(FileExistsError):
        keys.write_secret(made / keys.SEAL_KEY, b"another")
