"""What an operator's order to purge puts into the feed, says and refuses."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from datacenters import etcd_keys, purge_commands
from datacenters.etcd import Etcd
from datacenters.feeds import PURGE_TAGS_MAX, PrefixFeed, Publisher, Purge, decode_purge
from datacenters.purge_commands import KINDS, cache, malformed
from tests.datacenters.typing_in import invoke, said
from tests.waiting import eventually

TAG = "grades:abcdefgh23456722"


def there(etcd: Etcd) -> list[str]:
    return ["--etcd", etcd._urls[0]]


async def purges(etcd: Etcd) -> list[Purge]:
    return [decode_purge(item.value) for item in (await etcd.range(etcd_keys.PURGES, prefix=True)).items]


async def test_a_hard_purge_is_heard_by_every_follower_of_the_feed(etcd: Etcd) -> None:
    heard: list[tuple[int, Purge]] = []
    feed = PrefixFeed(
        etcd,
        etcd_keys.PURGES,
        on_reset=lambda _items: None,
        on_put=lambda item: heard.append((item.revision, decode_purge(item.value))),
        on_delete=lambda _name: None,
    )
    await feed.start()
    try:
        told = await said(cache, "purge", TAG, TAG, "calendar", *there(etcd))
        await eventually(lambda: len(heard) == 1, within_s=2)
    finally:
        await feed.stop()
    ((revision, purge),) = heard
    assert (told["revision"], told["tags"], told["soft"]) == (revision, [TAG, "calendar"], False)
    assert (purge.tags, purge.softened_at) == ((TAG, "calendar"), None)
    assert purge.by.startswith("operator:")


async def test_a_soft_purge_carries_when_it_was_ordered(etcd: Etcd) -> None:
    before = time.time()
    done = await invoke(cache, "purge", "--soft", TAG, *there(etcd))
    assert done.exit_code == 0
    assert re.fullmatch(rf"sent      soft purge of {TAG}, place \d+ of the feed\n", done.output)
    (purge,) = await purges(etcd)
    assert purge.softened_at is not None
    assert before <= purge.softened_at <= time.time()


async def test_an_order_given_again_by_a_slower_clock_counts_from_no_earlier_instant(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in (1000.0, 400.0, 1500.0):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        await purge_commands.order(etcd, (TAG,), soft=True, dry_run=False)
        (purge,) = await purges(etcd)
        assert purge.softened_at == max(at, 1000.0)


async def test_everything_is_purged_in_one_word(etcd: Etcd) -> None:
    done = await invoke(cache, "purge", "--everything", "--soft", *there(etcd))
    assert "soft purge of everything" in done.output
    assert [purge.tags for purge in await purges(etcd)] == [("*",)]


@pytest.mark.parametrize("kind", [(), ("--soft",)])
async def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(etcd: Etcd, kind: tuple[str, ...]) -> None:
    shown = await invoke(cache, "purge", TAG, *kind, "--dry-run", *there(etcd))
    assert shown.exit_code == 0
    assert shown.output == (
        f"would be  {'soft' if kind else 'hard'} purge of {TAG}\n          nothing was sent\n"
    )
    assert await purges(etcd) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name TAGs, or --everything instead"),
        ((TAG, "--everything"), "name TAGs, or --everything instead"),
        (("*",), "nothing is tagged '*'"),
        (("marks:abc",), "nothing is tagged 'marks:abc'"),
        (("grades",), "'grades' is not grades:ID"),
        (("grades:a:b",), "'grades:a:b' is not grades:ID"),
        (("grades:",), "'grades:' is not grades:ID"),
        (("grades:a b",), "'grades:a b' is not grades:ID"),
        (("calendar:2026",), "'calendar:2026' is not calendar"),
        (("gradebook:" + ":".join(["a" * 60] * 3),), "at most 128 characters"),
        (tuple(f"grades:{number}" for number in range(PURGE_TAGS_MAX + 1)), "at most 64 tags"),
    ],
)
async def test_what_no_entry_carries_is_refused_before_anything_is_asked(
    arguments: tuple[str, ...], sentence: str
) -> None:
    refused = await invoke(cache, "purge", *arguments, "--etcd", "http://127.0.0.1:1")
    assert (refused.exit_code, sentence in refused.output) == (2, True), refused.output


async def test_soft_purges_are_bounded_but_for_everything(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_commands, "SOFT_PURGES_MAX", 2)
    for tag in ("grades:a", "grades:b"):
        assert (await invoke(cache, "purge", "--soft", tag, *there(etcd))).exit_code == 0
    for more in ((), ("--dry-run",)):
        refused = await invoke(cache, "purge", "--soft", "grades:c", *more, *there(etcd))
        assert refused.exit_code == 1
        assert refused.output == "REFUSED   2 soft purges are remembered; purge hard, or everything softly\n"
    again = await invoke(cache, "purge", "--soft", "grades:a", *there(etcd))
    assert again.exit_code == 0, "it takes the place of its older self"
    assert (await invoke(cache, "purge", "--soft", "--everything", *there(etcd))).exit_code == 0
    assert (await invoke(cache, "purge", "grades:c", *there(etcd))).exit_code == 0


async def test_writes_purges_leave_room_for_soft_ones(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge_commands, "SOFT_PURGES_MAX", 1)
    await Publisher(etcd).publish_purge([TAG], epoch=1, position="1-1")
    assert (await invoke(cache, "purge", "--soft", TAG, *there(etcd))).exit_code == 0


async def test_without_a_majority_nothing_is_claimed() -> None:
    away = await invoke(cache, "purge", TAG, "--etcd", "http://127.0.0.1:1")
    assert away.exit_code == 1
    assert "etcd's majority does not answer" in away.output


def test_every_kind_of_tag_has_its_form() -> None:
    for kind, names in KINDS.items():
        assert malformed([":".join([kind, *["abcdefgh23456722"] * names])]) is None


async def test_the_command_leaves_no_task(etcd: Etcd) -> None:
    before = asyncio.all_tasks()
    await purge_commands.order(etcd, (TAG,), soft=False, dry_run=False)
    assert asyncio.all_tasks() == before
