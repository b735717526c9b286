"""Break-glass against three real etcd members of which two are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from datacenters import control
from datacenters.commands import dc
from datacenters.etcd import Etcd
from datacenters.record import Phase
from sandbox.etcd import EtcdServer
from tests.datacenters.typing_in import installed, invoke, said
from tests.datacenters.worlds import NOW

# What a site's own hook does: the same program, the same arguments, and one more.
HOOK = """
import os, signal, subprocess, sys, time
pid, kept = int(sys.argv[1]), sys.argv[2]
command = open(f"/proc/{pid}/cmdline", "rb").read().decode().split("\\0")[:-1]
os.kill(pid, signal.SIGKILL)
while True:
    try:
        if open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z":
            break
    except (FileNotFoundError, ProcessLookupError):
        break
    time.sleep(0.02)
started = subprocess.Popen([*command, "--force-new-cluster"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           start_new_session=True)
open(kept, "w").write(str(started.pid))
"""


def pair(folder: Path, name: str) -> Path:
    """A person's key pair; the private part is what is returned."""
    key = Ed25519PrivateKey.generate()
    private = folder / f"operator-{name}.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    (folder / "public").mkdir(exist_ok=True)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "public" / f"operator-{name}.pub.pem").write_bytes(public)
    return private


@pytest.fixture
async def lost(etcd_trio: tuple[EtcdServer, ...]) -> tuple[EtcdServer, list[str]]:
    """A declared trio of which the first two members are killed: the third, and the options for all."""
    client = Etcd([server.url for server in etcd_trio], timeout_s=5.0, connect_timeout_s=5.0)
    await control.bootstrap(client, active="rabat", now=NOW)
    survivor = Etcd([etcd_trio[2].url], timeout_s=5.0, connect_timeout_s=5.0)
    assert await control.read(survivor) is not None
    await client.aclose()
    await survivor.aclose()
    for server in etcd_trio[:2]:
        server.process.kill()
    return etcd_trio[2], [word for server in etcd_trio for word in ("--etcd", server.url)]


@pytest.fixture
def started_again(tmp_path: Path) -> Iterator[Path]:
    """Where the hook notes the member it started, which ends with the test."""
    noted = tmp_path / "member.pid"
    yield noted
    if noted.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(noted.read_text()), signal.SIGKILL)


async def test_two_people_make_the_surviving_site_serve(
    lost: tuple[EtcdServer, list[str]], tmp_path: Path, started_again: Path
) -> None:
    survivor, where = lost
    amina, brahim = pair(tmp_path, "amina"), pair(tmp_path, "brahim")
    file, keys = str(tmp_path / "order.json"), ("--keys", str(tmp_path / "public"))
    hook = tmp_path / "hook.py"
    hook.write_text(HOOK)
    command = f"{sys.executable} {hook} {survivor.process.pid} {started_again}"

    stated = ("--site", "marrakech", "--reason", "flood", "--key", str(amina))
    assert (await invoke(dc, "break-glass", "prepare", file, *stated, *where)).exit_code == 2
    done = await invoke(dc, "break-glass", "prepare", file, *stated, "--others-are-off", *where)
    assert (done.exit_code, "signed by amina" in done.output) == (0, True), done.output

    alone = await invoke(dc, "break-glass", "execute", file, *keys, "--member-hook", command, *where)
    assert alone.exit_code == 1
    assert "1 different people's keys have signed (amina), 2 are asked" in alone.output
    same = await invoke(dc, "break-glass", "approve", file, "--key", str(amina), "--yes")
    assert (same.exit_code, "signed already" in same.output) == (1, True)
    assert (await invoke(dc, "break-glass", "approve", file, "--key", str(brahim), "--yes")).exit_code == 0

    by_hand = await invoke(dc, "break-glass", "execute", file, *keys, *where)
    assert (by_hand.exit_code, "--force-new-cluster" in by_hand.output) == (1, True)
    dry = await said(dc, "break-glass", "execute", file, *keys, "--member-hook", command, "--dry-run", *where)
    assert (dry["refusal"], dry["after"], started_again.exists()) == (None, None, False)

    done = await invoke(dc, "break-glass", "execute", file, *keys, "--member-hook", command, *where)
    assert done.exit_code == 0, done.output
    assert "declared  epoch 2, PROMOTING, active rabat -> marrakech, by operators:amina+brahim" in done.output
    assert "NOT DONE" in done.output

    client = Etcd([survivor.url], timeout_s=5.0, connect_timeout_s=5.0)
    held = await control.read(client)
    assert held is not None
    assert (held.record.epoch, held.record.phase, held.record.target) == (2, Phase.PROMOTING, "marrakech")
    chain = (await control.chain(client)).walked()
    assert chain.whole
    assert chain.last is not None
    assert chain.last.evidence["signed_by"] == ["amina", "brahim"]
    await client.aclose()
    again = await invoke(dc, "break-glass", "execute", file, *keys, *where)
    assert "stated at epoch 1, the surviving member holds epoch 2" in again.output


async def test_while_a_majority_answers_it_is_refused(etcd: Etcd, tmp_path: Path) -> None:
    where = await installed(etcd)
    amina, brahim = pair(tmp_path, "amina"), pair(tmp_path, "brahim")
    file = tmp_path / "order.json"
    await invoke(
        dc, "break-glass", "prepare", str(file), "--site", "rabat", "--reason", "x", "--key", str(amina),
        "--others-are-off", *where,
    )  # fmt: skip
    await invoke(dc, "break-glass", "approve", str(file), "--key", str(brahim), "--yes")
    # This etcd of one member is alone already, which is what a restart by hand leads to: then it is allowed.
    done = await invoke(
        dc, "break-glass", "execute", str(file), "--keys", str(tmp_path / "public"), "--dry-run", *where
    )
    assert "the member is a cluster of one already" in done.output


async def test_of_three_members_a_majority_refuses_it(
    etcd_trio: tuple[EtcdServer, ...], tmp_path: Path
) -> None:
    client = Etcd([server.url for server in etcd_trio], timeout_s=5.0, connect_timeout_s=5.0)
    await control.bootstrap(client, active="rabat", now=NOW)
    await client.aclose()
    where = [word for server in etcd_trio for word in ("--etcd", server.url)]
    amina = pair(tmp_path, "amina")
    file = str(tmp_path / "order.json")
    warned = await invoke(
        dc, "break-glass", "prepare", file, "--site", "rabat", "--reason", "x", "--key", str(amina),
        "--others-are-off", *where,
    )  # fmt: skip
    assert "`massar dc failover` is the way" in warned.output
    await invoke(dc, "break-glass", "approve", file, "--key", str(pair(tmp_path, "brahim")), "--yes")
    hook = ("--member-hook", "/bin/false")
    refused = await invoke(
        dc, "break-glass", "execute", file, "--keys", str(tmp_path / "public"), *hook, *where
    )
    assert (refused.exit_code, "a majority of 3 members answers" in refused.output) == (1, True)


async def test_a_hook_that_fails_declares_nothing(lost: tuple[EtcdServer, list[str]], tmp_path: Path) -> None:
    _, where = lost
    amina, brahim = pair(tmp_path, "amina"), pair(tmp_path, "brahim")
    file = str(tmp_path / "order.json")
    await invoke(
        dc, "break-glass", "prepare", file, "--site", "rabat", "--reason", "x", "--key", str(amina),
        "--others-are-off", *where,
    )  # fmt: skip
    await invoke(dc, "break-glass", "approve", file, "--key", str(brahim), "--yes")
    for hook, told in (("/bin/false", "ended with 1"), ("/no/such/hook", "did not run")):
        refused = await invoke(
            dc,
            "break-glass",
            "execute",
            file,
            "--keys",
            str(tmp_path / "public"),
            "--member-hook",
            hook,
            *where,
        )
        assert refused.exit_code == 1
        assert told in refused.output
        assert "nothing was declared" in refused.output


async def test_keys_are_operators_own_and_closed(etcd: Etcd, tmp_path: Path) -> None:
    where = await installed(etcd)
    amina = pair(tmp_path, "amina")
    stated = ("--site", "rabat", "--reason", "x", "--others-are-off", *where)
    amina.chmod(0o644)
    file = str(tmp_path / "order.json")
    opened = await invoke(dc, "break-glass", "prepare", file, *stated, "--key", str(amina))
    assert (opened.exit_code, "can be read by others" in opened.output) == (1, True)
    other = tmp_path / "amina.pem"
    other.write_bytes(b"x")
    assert (await invoke(dc, "break-glass", "prepare", file, *stated, "--key", str(other))).exit_code == 2
    nothing = tmp_path / "nothing.json"
    nothing.write_text("{}")
    approve = await invoke(dc, "break-glass", "approve", str(nothing), "--key", str(amina), "--yes")
    assert (approve.exit_code, "no break-glass statement" in approve.output) == (1, True)
