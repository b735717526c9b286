"""`massar cache purge`: an operator's word that cached answers are wrong, or only that they may be old.

Invariant: what is sent stands in the same feed as a write's purges, so every worker of every site hears it in order;
`--dry-run` writes nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from datacenters import etcd_keys, reach
from datacenters.etcd import Etcd
from datacenters.feeds import (
    PURGE_TAGS_MAX,
    SOFT_PURGES_MAX,
    Publisher,
    Purge,
    decode_purge,
    purge_key,
)
from datacenters.notices import TAG_CHARS_MAX

EVERYTHING = "*"
# What entries are tagged with, and how many names follow the word (docs/operating.md).
KINDS = {
    "absences": 1,
    "announcements": 1,
    "assignments": 1,
    "calendar": 0,
    "done": 1,
    "gradebook": 3,
    "grades": 1,
    "homework": 1,
    "profile": 1,
    "relations": 1,
    "roster": 1,
    "timetable": 1,
}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_NOWHERE = "0-0"


class Told(msgspec.Struct, frozen=True):
    """One order to purge: what was (or with `dry_run` would be) sent, where it stands in the feed, or why it was refused."""

    tags: tuple[str, ...]
    soft: bool
    dry_run: bool
    revision: int | None = None
    refusal: str | None = None


@click.group()
def cache() -> None:
    """What every worker's cache is told to show no longer."""


@cache.command()
@reach.where
@click.option("--soft", is_flag=True, help="May be old: show it as stale while it is asked about again.")
@click.option(
    "--everything",
    is_flag=True,
    help="All entries of all sites, instead of TAGs; not the schools' web pages.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.argument("tags", nargs=-1, metavar="[TAG]...")
@click.pass_context
def purge(
    context: click.Context,
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    soft: bool,
    everything: bool,
    dry_run: bool,
    tags: tuple[str, ...],
) -> None:
    """Outdate all cached answers under each TAG (such as grades:CLASS), at every worker of every site.

    They are never shown again; with --soft they are stale from now on, and shown only as stale answers are.
    """
    if everything == bool(tags):
        raise click.UsageError("name TAGs, or --everything instead")
    if (wrong := malformed(tags)) is not None:
        raise click.UsageError(wrong)
    named = (EVERYTHING,) if everything else tuple(dict.fromkeys(tags))
    at = reach.place(directory, urls)
    told = reach.with_majority(at, lambda etcd: order(etcd, named, soft=soft, dry_run=dry_run))
    reach.echo(told, _text(told), as_json=as_json)
    context.exit(1 if told.refusal else 0)


def malformed(tags: Sequence[str]) -> str | None:
    """What is wrong with these tags, as a sentence; None when each of them is one that entries carry."""
    if len(tags) > PURGE_TAGS_MAX:
        return f"at most {PURGE_TAGS_MAX} tags at once"
    for tag in tags:
        kind, *names = tag.split(":")
        if len(tag) > TAG_CHARS_MAX:
            return f"a tag has at most {TAG_CHARS_MAX} characters: {tag[:TAG_CHARS_MAX]}..."
        if kind not in KINDS:
            return f"nothing is tagged {tag!r}; tags begin with {', '.join(KINDS)}"
        if len(names) != KINDS[kind] or not all(_NAME.fullmatch(name) for name in names):
            return f"{tag!r} is not {kind}{':ID' * KINDS[kind]}"
    return None


async def order(etcd: Etcd, tags: tuple[str, ...], *, soft: bool, dry_run: bool) -> Told:
    """Put one purge into the feed, unless too many soft ones are remembered there already.

    Raises: EtcdUnavailable, EtcdRefused.
    """
    told = Told(tags=tags, soft=soft, dry_run=dry_run)
    before = await _ordered_before(etcd, tags) if soft else None
    new = soft and before is None and tags != (EVERYTHING,)
    if new and await etcd.count(etcd_keys.SOFT_PURGES) >= SOFT_PURGES_MAX:
        reason = f"{SOFT_PURGES_MAX} soft purges are remembered; purge hard, or everything softly"
        return msgspec.structs.replace(told, refusal=reason)
    if dry_run:
        return told
    said = Purge(
        tags=tags,
        epoch=0,
        position=_NOWHERE,
        softened_at=max(time.time(), before or 0.0)
        if soft
        else None,  # another operator's clock may be ahead
        by=reach.operator(),
    )
    return msgspec.structs.replace(told, revision=await Publisher(etcd).order_purge(said))


async def _ordered_before(etcd: Etcd, tags: tuple[str, ...]) -> float | None:
    """When these tags were last purged softly, as far as it is remembered; Unix seconds."""
    key = purge_key(Purge(tags=tags, epoch=0, position=_NOWHERE, softened_at=0.0))
    for item in (await etcd.range(key)).items:
        with suppress(msgspec.MsgspecError):
            return decode_purge(item.value).softened_at
    return None


def _text(told: Told) -> str:
    what = "everything" if told.tags == (EVERYTHING,) else " ".join(told.tags)
    kind = "soft" if told.soft else "hard"
    if told.refusal is not None:
        return f"REFUSED   {told.refusal}"
    if told.revision is None:
        return f"would be  {kind} purge of {what}\n          nothing was sent"
    return f"sent      {kind} purge of {what}, place {told.revision} of the feed"
