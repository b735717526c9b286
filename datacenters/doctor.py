"""Whether the whole is fit for a bad night: looks at everything that can be looked at, and says what it found.

Invariant: nothing here writes; what does not answer in time is told as a finding and ends nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from datacenters import (
    clocks,
    cluster_checks,
    control,
    etcd_keys,
    etcd_members,
    key_files,
    ordering,
    site_checks,
)
from datacenters.audit_chain import Walk
from datacenters.checkup import RUNBOOKS, Check, Checkup, Finding, Said, State
from datacenters.clocks import Offset
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from datacenters.preflight import Situation

# Longer journals are counted, not weighed.
WEIGHED_RECORDS_MAX = 2_000
TIMEOUT_S = 2.0

CHECKS: Mapping[Check, Callable[[Checkup], Said]] = MappingProxyType({
    Check.ETCD_MAJORITY_LOST: cluster_checks.majority,
    Check.ETCD_MEMBER_AWAY: cluster_checks.members,
    Check.ETCD_PUT_BACK: cluster_checks.put_back,
    Check.ETCD_VERSION: cluster_checks.version,
    Check.ETCD_FULL: cluster_checks.full,
    Check.ETCD_ALARM: cluster_checks.alarm,
    Check.FAILOVER_UNSAFE: cluster_checks.failover,
    Check.NOT_AUTOMATIC: cluster_checks.automatic,
    Check.MOVE_STUCK: cluster_checks.stuck,
    Check.WRITES_AT_RISK: cluster_checks.at_risk,
    Check.JOURNAL_GROWN: cluster_checks.journal,
    Check.PARKED_WRITES: cluster_checks.parked,
    Check.REPLICATION_SLOT: site_checks.slots,
    Check.DISK_FULL: site_checks.disks,
    Check.DIRECTOR_SILENT: site_checks.directors,
    Check.CLOCK_SKEW: site_checks.clocks,
    Check.KEY_FILES: site_checks.keys,
    Check.CERTIFICATE_EXPIRY: site_checks.certificates,
    Check.AUDIT_BROKEN: site_checks.audit,
    Check.AUDIT_GROWN: site_checks.audit_size,
})  # fmt: skip


def findings(seen: Checkup) -> tuple[Finding, ...]:
    """Every check's outcome, the wrong ones first."""
    made = [_finding(check, CHECKS[check](seen)) for check in Check]
    order = (State.WRONG, State.NOTICE, State.OK)
    return tuple(sorted(made, key=lambda one: order.index(one.state)))


def is_wrong(found: Iterable[Finding]) -> bool:
    """Whether anything needs somebody now."""
    return any(one.state is State.WRONG for one in found)


async def examine(
    urls: Sequence[str], *, keys: Path | None, sites: Sequence[str] = (), sandbox: bool = False
) -> Checkup:
    """Look at everything; `sites` are those whose directors should publish (else etcd's members name them)."""
    etcd = Etcd(urls, timeout_s=TIMEOUT_S)
    try:
        members, (majority, situation), measured, chain = await asyncio.gather(
            etcd_members.look(urls, timeout_s=TIMEOUT_S), _situation(etcd), _clocks(etcd), _chain(etcd)
        )
        weighed = await _weighed(etcd, situation) if majority and situation else None
    finally:
        await etcd.aclose()
    files = None if keys is None else await asyncio.to_thread(_inspected, keys)
    named = {name for member in members for name in member.members}
    seen = situation.observations if situation else {}
    looked_at = {name for one in seen.values() for name in one.looks}
    return Checkup(
        now=time.time(),
        sandbox=sandbox,
        members=members,
        majority=majority,
        situation=situation,
        expected=tuple(sites) or tuple(sorted(named | looked_at)),
        journal_bytes=weighed,
        clocks=measured,
        keys=files,
        keys_missing=() if files is None else key_files.missing(files),
        chain=chain,
    )


def _finding(check: Check, said: Said) -> Finding:
    return Finding(check=check, state=said[0], sentence=said[1], runbook=f"{RUNBOOKS}/{check}.md")


async def _situation(etcd: Etcd) -> tuple[bool, Situation | None]:
    """Whether a majority answers, and what is declared (by one member's word where there is no majority)."""
    try:
        return True, (await ordering.situation(etcd))[1]
    except (EtcdUnavailable, EtcdRefused):
        pass
    except msgspec.MsgspecError:
        return True, None
    try:
        return False, (await ordering.situation(etcd, serializable=True))[1]
    except (EtcdUnavailable, EtcdRefused, msgspec.MsgspecError):
        return False, None


async def _clocks(etcd: Etcd) -> dict[str, Offset] | None:
    try:
        return await clocks.offsets(etcd)
    except (EtcdUnavailable, EtcdRefused):
        return None


async def _chain(etcd: Etcd) -> Walk | None:
    for serializable in (False, True):
        try:
            return (await control.chain(etcd, serializable=serializable)).walked()
        except msgspec.MsgspecError:
            return None
        except (EtcdUnavailable, EtcdRefused):
            continue
    return None


async def _weighed(etcd: Etcd, situation: Situation) -> int | None:
    if situation.journal_records > WEIGHED_RECORDS_MAX:
        return None
    try:
        listing = await etcd.range(etcd_keys.JOURNAL, prefix=True)
    except (EtcdUnavailable, EtcdRefused):
        return None
    return sum(len(item.value) for item in listing.items)


def _inspected(folder: Path) -> tuple[key_files.KeyFile, ...]:
    try:
        return key_files.inspect(folder)
    except OSError as error:
        return (
            key_files.KeyFile(str(folder), "folder", problem=f"cannot be listed ({type(error).__name__})"),
        )
