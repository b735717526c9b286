"""`massar dc break-glass prepare|approve|execute`: two people make a surviving site serve without etcd's majority.

Invariant: the member is made a cluster of one before anything is declared, and nothing is declared while a majority
of the old cluster still answers; what was not done is said as plainly as what was.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time
from pathlib import Path

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters import break_glass, control, etcd_members, explaining, reach
from datacenters.break_glass import REASON_CHARS_MAX, VALID_S, Order
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from datacenters.record import Record, Refusal, Rule
from datacenters.sender_keys import read_private_key, read_public_keys

KEY_PREFIX = "operator-"
HOOK_WITHIN_S = 120.0
ALONE_WITHIN_S = 60.0
POLL_S = 0.5
NOT_DONE = (
    "the lost sites: whatever of them returns must be wiped and rebuilt as a standby (docs/runbooks/etcd-majority-lost.md)",
    "etcd's other members: add new ones, empty, once the sites are rebuilt; until then this member is the only copy",
    "acknowledged writes whose journal records only the lost members had: with one member of three they may be missing",
)


class Executed(msgspec.Struct, frozen=True):
    """What the order came to, and what was not done."""

    member: str
    dry_run: bool
    rules: tuple[Rule, ...]
    refusal: str | None
    after: Record | None = None
    not_done: tuple[str, ...] = ()


@click.group("break-glass")
def group() -> None:
    """Serve from the one surviving site when etcd's majority is lost for good: two people, two keys, 15 minutes.

    Only when the other members are destroyed, powered off or cut off for good. If they merely cannot be reached from
    here they go on without this site, and two datacenters will take writes. Read docs/runbooks/etcd-majority-lost.md.
    """


@group.command()
@reach.where
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--site", required=True, help="The surviving site that is to serve.")
@click.option("--reason", required=True, help="Why; kept for ever.")
@click.option("--key", required=True, type=click.Path(exists=True, path_type=Path), help="operator-NAME.pem")
@click.option("--others-are-off", is_flag=True, help=break_glass.OTHERS_ARE_OFF)
def prepare(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    file: Path,
    site: str,
    reason: str,
    key: Path,
    others_are_off: bool,
) -> None:
    """Write a signed statement to FILE; another person approves it within 15 minutes."""
    if not others_are_off:
        raise click.UsageError(f"--others-are-off is what you sign: {break_glass.OTHERS_ARE_OFF}")
    if len(reason) > REASON_CHARS_MAX:
        raise click.UsageError(f"--reason: at most {REASON_CHARS_MAX} characters")

    async def read(etcd: Etcd, serializable: bool) -> Record:  # noqa: FBT001 - as `reach` calls it
        return reach.was_declared(await control.read(etcd, serializable=serializable)).record

    record, member = reach.with_any_member(reach.place(directory, urls), read)
    private, by = _key(key)
    order = break_glass.prepare(
        site=site, epoch=record.epoch, reason=reason, key=private, by=by, now=time.time()
    )
    file.write_bytes(break_glass.encode(order))
    text = f"{file}: signed by {by}, to be approved and executed within {VALID_S / 60:.0f} minutes"
    if member is None:
        text += "\nA majority of etcd answers: `massar dc failover` is the way; execute will refuse this."
    reach.echo(order, text, as_json=as_json)


@group.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", required=True, type=click.Path(exists=True, path_type=Path), help="operator-NAME.pem")
@click.option("--yes", is_flag=True, help="Do not show and ask.")
def approve(*, file: Path, key: Path, yes: bool) -> None:
    """Sign the statement in FILE as the second person."""
    order = _read(file)
    stated = order.statement
    if not yes:
        click.echo(f"site {stated.site}, epoch {stated.epoch}: {stated.reason}\n{stated.others}")
        click.confirm("Do you know all of this yourself, and sign it?", abort=True)
    private, by = _key(key)
    approved = break_glass.approve(order, key=private, by=by, now=time.time())
    if isinstance(approved, Refusal):
        raise click.ClickException(approved.reason)
    file.write_bytes(break_glass.encode(approved))
    left_s = stated.valid_until - time.time()
    click.echo(f"{file}: signed by {by} too; execute it within {left_s:.0f} s")


@group.command()
@reach.where
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--keys", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of operator-NAME.pub.pem files.",
)  # fmt: skip
@click.option(
    "--member-hook",
    metavar="COMMAND",
    help="Restarts the local etcd member with --force-new-cluster; gets the member's address as its last argument.",
)
@click.option("--dry-run", is_flag=True, help="Check every rule, and do nothing.")
def execute(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    file: Path,
    keys: Path,
    member_hook: str | None,
    dry_run: bool,
) -> None:
    """Verify both signatures, make the surviving member a cluster of one, and declare the site at a new epoch.

    Without `--member-hook` the member must already have been restarted with --force-new-cluster by hand.
    """
    at = reach.place(directory, urls)
    try:
        executed = asyncio.run(_execute(at, _read(file), keys, member_hook, dry_run=dry_run))
    except (EtcdUnavailable, EtcdRefused) as error:
        raise click.ClickException(f"no member of etcd answers at all ({error})") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    reach.echo(executed, _text(executed), as_json=as_json)
    click.get_current_context().exit(1 if executed.refusal else 0)


async def _execute(at: reach.Place, order: Order, keys: Path, hook: str | None, *, dry_run: bool) -> Executed:
    public = read_public_keys(keys, kind="operator")
    member, record = await _survivor(at)
    majority, members = await _majority(at, member)
    alone = majority and members == 1
    rules = (
        *break_glass.rules(order, keys=public, record=record, now=time.time()),
        Rule(
            "majority-is-gone",
            not majority or alone,
            f"a majority of {members} members answers: `massar dc failover` is the way"
            if majority and not alone
            else ("the member is a cluster of one already" if alone else "no majority answers"),
        ),
        Rule(
            "member-can-be-alone",
            alone or hook is not None,
            "there is a hook, or the member is alone already"
            if alone or hook
            else "restart this etcd member with its own arguments and --force-new-cluster (or name a --member-hook "
            "that does), then execute again; the sandbox has no such hook: there it is done by hand as well",
        ),
    )
    broken = "; ".join(rule.sentence for rule in rules if not rule.holds) or None
    made = Executed(member=member, dry_run=dry_run, rules=rules, refusal=broken, not_done=NOT_DONE)
    if dry_run or broken:
        return made
    if not alone and hook is not None:
        refusal = await _made_alone(hook, member)
        if refusal is not None:
            return msgspec.structs.replace(made, refusal=refusal)
    return await _declare(made, order, break_glass.signers(order, keys=public))


async def _declare(made: Executed, order: Order, by: tuple[str, ...]) -> Executed:
    etcd = Etcd((made.member,), timeout_s=reach.ETCD_TIMEOUT_S)
    try:
        held = await control.read(etcd)
        if held is None or held.record.epoch != order.statement.epoch:
            return msgspec.structs.replace(
                made, refusal="the record is not the one that was stated; look again"
            )
        after = break_glass.declared(held.record, order, by=by, now=time.time())
        if not await control.change(etcd, held, after):
            return msgspec.structs.replace(made, refusal="the record changed meanwhile; look again")
    finally:
        await etcd.aclose()
    return msgspec.structs.replace(made, after=after)


async def _survivor(at: reach.Place) -> tuple[str, Record]:
    """The member that still answers for itself, and the record it holds."""
    failure = EtcdUnavailable("no address")
    for url in at.urls:
        etcd = Etcd((url,), timeout_s=reach.ETCD_TIMEOUT_S)
        try:
            held = await control.read(etcd, serializable=True)
        except EtcdUnavailable as error:
            failure = error
            continue
        finally:
            await etcd.aclose()
        return url, reach.was_declared(held).record
    raise failure


async def _majority(at: reach.Place, member: str) -> tuple[bool, int]:
    """Whether a majority answers anywhere, and how many members the survivor's cluster has."""
    etcd = Etcd(at.urls, timeout_s=reach.ETCD_TIMEOUT_S)
    try:
        await control.read(etcd)
    except EtcdUnavailable:
        return False, 0
    finally:
        await etcd.aclose()
    return True, await etcd_members.count(member)


async def _made_alone(hook: str, member: str) -> str | None:
    """Run the hook and wait until the member decides by itself; why not, or None."""
    command = [*shlex.split(hook), member]
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=HOOK_WITHIN_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the member hook did not run: {error}; nothing was declared"
    if done.returncode != 0:
        return f"the member hook ended with {done.returncode}: {done.stderr.strip()[-300:]}; nothing was declared"
    until = time.monotonic() + ALONE_WITHIN_S
    while time.monotonic() < until:
        if (await _majority(reach.Place(urls=(member,)), member)) == (True, 1):
            return None
        await asyncio.sleep(POLL_S)
    return f"{member} did not become a cluster of one within {ALONE_WITHIN_S:.0f} s; nothing was declared"


def _key(path: Path) -> tuple[Ed25519PrivateKey, str]:
    """An operator's private key, and the name its file gives him."""
    name = path.name.removesuffix(".pem").removeprefix(KEY_PREFIX)
    if not path.name.startswith(KEY_PREFIX) or not name or name.endswith(".pub"):
        raise click.UsageError(f"--key: {path.name} is not operator-NAME.pem")
    if path.stat().st_mode & 0o077:
        raise click.ClickException(f"{path} can be read by others: chmod 600, or better make a new key")
    try:
        return read_private_key(path), name
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def _read(file: Path) -> Order:
    try:
        return break_glass.decode(file.read_bytes())
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"{file} is no break-glass statement: {error}") from None


def _text(executed: Executed) -> str:
    lines = [f"member    {executed.member}", *explaining.rule_lines(executed.rules)]
    if executed.refusal is not None:
        return "\n".join([*lines, f"REFUSED   {executed.refusal}"])
    if executed.after is None:
        return "\n".join([*lines, "every rule holds; nothing was done"])
    after = executed.after
    moving = f" -> {after.target}" if after.target else ""
    lines.append(
        f"declared  epoch {after.epoch}, {after.phase}, active {after.active}{moving}, by {after.decided_by}"
    )
    return "\n".join([*lines, "NOT DONE", *(f"  - {what}" for what in executed.not_done)])
