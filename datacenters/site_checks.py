"""Checks of what each site stands on: slots, disks, directors, clocks, keys, and the audit chain; pure.

Invariant: what could not be looked at is never told as good.
"""

from __future__ import annotations

from datacenters.checkup import Checkup, Said, State, mib
from datacenters.ground import Disk, Ground, Slot

SLOT_SHARE_MAX = 0.5
DISK_FREE_SHARE_MIN = 0.10
# Assertions between sites live for 30 s and sign-outs for a token's 10 min: clocks may differ by a small part of that.
CLOCK_SKEW_MAX_S = 2.0
CERTIFICATE_ENDS_WITHIN_S = 30 * 86_400.0
AUDIT_BYTES_MAX = 64 * 1024 * 1024
LOST_SLOTS = frozenset({"unreserved", "lost"})
NAMED_MAX = 5


def slots(seen: Checkup) -> Said:
    """No replication slot keeps so much that the standby may be cut off or the disk fill."""
    grounds = _grounds(seen)
    failed = [
        f"{site}'s PostgreSQL could not be asked ({one.failure})" for site, one in grounds if one.failure
    ]
    kept = [(site, slot) for site, one in grounds for slot in one.slots]
    wrong = [said for site, slot in kept if (said := _slot_wrong(site, slot))]
    told = "; ".join(_slot_text(site, slot) for site, slot in kept)
    if wrong or failed:
        return State.WRONG, "; ".join([*wrong, *failed])
    if not kept:
        return State.NOTICE, "no director tells of a replication slot"
    unbounded = [slot.name for _, slot in kept if slot.bound_bytes is None]
    return (State.NOTICE if unbounded else State.OK), told


def disks(seen: Checkup) -> Said:
    """There is room under every watched folder."""
    found = [(site, disk) for site, one in _grounds(seen) for disk in one.disks]
    low = [_disk_text(site, disk) for site, disk in found if _share(disk) < DISK_FREE_SHARE_MIN]
    if low:
        return State.WRONG, f"less than {DISK_FREE_SHARE_MIN:.0%} free: {'; '.join(low)}"
    if not found:
        return State.NOTICE, "no director tells of its disks: name folders by MASSAR_DIRECTOR_FOLDERS"
    return State.OK, "; ".join(_disk_text(site, disk) for site, disk in found)


def directors(seen: Checkup) -> Said:
    """Every site's director publishes what it sees."""
    if seen.situation is None:
        return State.WRONG, "nothing is declared, or it could not be read"
    publishing = seen.situation.observations.keys()
    silent = sorted(set(seen.expected) - publishing)
    if silent:
        return State.WRONG, f"nothing from the director of {', '.join(silent)}"
    if not publishing:
        return State.WRONG, "no director publishes"
    return State.OK, f"{', '.join(sorted(publishing))} publish"


def clocks(seen: Checkup) -> Said:
    """No two sites' clocks, nor this machine's, differ by more than the tolerance."""
    if not seen.clocks:
        return State.NOTICE, "not measured: no director published while this listened"
    known = {"here": (0.0, 0.0)} | {
        site: (one.offset_s, one.uncertainty_s) for site, one in seen.clocks.items()
    }
    wrong = []
    for site, (offset_s, doubt_s) in known.items():
        for other, (other_s, other_doubt_s) in known.items():
            apart_s = offset_s - other_s
            if apart_s - doubt_s - other_doubt_s > CLOCK_SKEW_MAX_S:
                wrong.append(f"{site}'s clock is {apart_s:.1f} s ahead of {other}'s")
    if wrong:
        return State.WRONG, f"{'; '.join(wrong)}; tolerated are {CLOCK_SKEW_MAX_S:.0f} s"
    measured = ", ".join(
        f"{site} {one.offset_s:+.2f} s (give or take {one.uncertainty_s:.2f})"
        for site, one in sorted(seen.clocks.items())
    )
    return State.OK, f"against this machine's: {measured}; tolerated are {CLOCK_SKEW_MAX_S:.0f} s"


def keys(seen: Checkup) -> Said:
    """Every key that a gateway needs is there, whole, and closed to others."""
    if seen.keys is None:
        return State.NOTICE, "not looked at: name this site's folder by --keys"
    wrong = [f"{one.path}: {one.problem}" for one in seen.keys if one.problem]
    wrong += [f"no {kind} is there" for kind in seen.keys_missing]
    if wrong:
        more = f" and {len(wrong) - NAMED_MAX} more" if len(wrong) > NAMED_MAX else ""
        return State.WRONG, "; ".join(wrong[:NAMED_MAX]) + more
    return State.OK, f"{len(seen.keys)} files are whole and closed to others"


def certificates(seen: Checkup) -> Said:
    """No certificate ends soon."""
    dated = [(one.ends_at, one.path) for one in seen.keys or () if one.ends_at is not None]
    soon = [
        f"{path} {'ended' if ends_at < seen.now else 'ends'} {abs(ends_at - seen.now) / 86_400:.0f} days "
        f"{'ago' if ends_at < seen.now else 'from now'}"
        for ends_at, path in sorted(dated)
        if ends_at - seen.now < CERTIFICATE_ENDS_WITHIN_S
    ]
    if soon:
        return State.WRONG, "; ".join(soon[:NAMED_MAX])
    if not dated:
        return State.OK, "no X.509 certificate lies there; the other keys do not run out"
    return State.OK, f"the first of {len(dated)} ends in {(min(dated)[0] - seen.now) / 86_400:.0f} days"


def audit(seen: Checkup) -> Said:
    """The audit chain is whole and ends in the present record."""
    if seen.chain is None:
        return State.WRONG, "the audit chain could not be read"
    if seen.chain.broken is not None:
        return State.WRONG, f"broken at row {seen.chain.broken.sequence}: {seen.chain.broken.sentence}"
    if seen.chain.lacking:
        first = seen.chain.lacking[0]
        return State.WRONG, f"row {first.sequence}: {first.sentence}"
    return State.OK, f"{seen.chain.rows} rows are one chain that ends in the present record"


def audit_size(seen: Checkup) -> Said:
    """The audit chain leaves etcd its room."""
    if seen.chain is None:
        return State.NOTICE, "not known"
    volume = seen.chain.volume
    state = State.NOTICE if volume > AUDIT_BYTES_MAX else State.OK
    return state, f"{seen.chain.rows} rows, {mib(volume)}, worth a look beyond {mib(AUDIT_BYTES_MAX)}"


def _grounds(seen: Checkup) -> list[tuple[str, Ground]]:
    observations = seen.situation.observations if seen.situation else {}
    return [(site, one.ground) for site, one in sorted(observations.items()) if one.ground is not None]


def _slot_wrong(site: str, slot: Slot) -> str | None:
    if slot.wal_status in LOST_SLOTS:
        return f"{site}'s {slot.name} is {slot.wal_status}: what its standby needs is gone, it must be built anew"
    if slot.bound_bytes is not None and slot.retained_bytes > SLOT_SHARE_MAX * slot.bound_bytes:
        return f"{_slot_text(site, slot)}: beyond the bound its standby is cut off"
    if not slot.active:
        return f"{_slot_text(site, slot)} and nobody follows it"
    return None


def _slot_text(site: str, slot: Slot) -> str:
    bound = "no bound" if slot.bound_bytes is None else f"at most {mib(slot.bound_bytes)}"
    return f"{site}'s {slot.name} keeps {mib(slot.retained_bytes)} ({bound})"


def _share(disk: Disk) -> float:
    return disk.free_bytes / disk.total_bytes if disk.total_bytes else 0.0


def _disk_text(site: str, disk: Disk) -> str:
    return f"{site}: {mib(disk.free_bytes)} of {mib(disk.total_bytes)} free ({_share(disk):.0%}) under {disk.folder}"
