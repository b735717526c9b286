"""The journal on paper: two databases, etcd, workers, and a network that loses, repeats and reorders; nothing real.

Every method is one step that a crash may come before or after. A *planted bug* changes a step of this model, never the
product: what holds for the model without one must be seen broken with each.

Source: docs/decisions/0008, docs/failover-proof.md.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from datacenters import record
from datacenters.record import FREEZE_PHASES, SERVING_PHASES, Phase, Policy, Protection, Record, Refusal

SITES = ("rabat", "marrakech")
START = 1_790_000_000.0
LAX = Policy(dwell_s=0, moves_per_day=1_000_000)

At = tuple[int, int]


class Bug(StrEnum):
    """What a proof must be able to see."""

    NONE = "none"
    CLAIM_WITHOUT_RISE = "a claim without a new epoch"
    NO_DEDUP = "no memory of keys"
    NO_FENCE = "no fence"
    ANSWER_BEFORE_JOURNAL = "an answer before the journal has the write"
    REPLAY_BEFORE_PROMOTION_ENDS = "a replay before the promotion has ended"
    PRUNE_BEFORE_CONFIRMATION = "pruning before the standby has the write"


class Row(msgspec.Struct, frozen=True):
    """One committed write; `answer` is its verdict, different wherever it is decided anew."""

    key: str
    entity: str
    answer: str
    at: At


class Database:
    """One site's PostgreSQL: its log is its state; a standby applies its leader's log, row by row."""

    def __init__(self, site: str, *, in_recovery: bool) -> None:
        self.site = site
        self.in_recovery = in_recovery
        self.timeline = 1
        self.rows: list[Row] = []
        self.received = 0
        self.fence: tuple[int, str | None] = (1, "rabat")
        self.highest_seen = 1

    @property
    def end(self) -> At:
        """Where its log ends."""
        return (self.timeline, len(self.rows))

    def row(self, key: str) -> Row | None:
        """The first effect of a key."""
        return next((row for row in self.rows if row.key == key), None)

    def write(self, key: str, entity: str, *, dedup: bool, answer: str | None = None) -> Row:
        """Do it, unless it is there; `answer` imposes a recorded verdict."""
        if dedup and (found := self.row(key)) is not None:
            return found
        at = (self.timeline, len(self.rows) + 1)
        made = Row(key, entity, answer or f"{key}@{self.site}:{at}", at)
        self.rows.append(made)
        return made


class Request(msgspec.Struct, frozen=True):
    """A worker asks a datacenter to write."""

    key: str
    entity: str
    epoch: int
    to: str


class Executed(msgspec.Struct, frozen=True):
    """A datacenter tells a worker its verdict."""

    row: Row
    epoch: int


class Keep(msgspec.Struct, frozen=True):
    """A worker asks etcd to keep the record if the epoch is still this one."""

    row: Row
    epoch: int


class Kept(msgspec.Struct, frozen=True):
    """etcd says that it did; the phone is answered when this arrives."""

    row: Row
    epoch: int


class Prune(msgspec.Struct, frozen=True):
    """A standby's director asks etcd to remove what its database has."""

    up_to: At
    epoch: int


Message = Request | Executed | Keep | Kept | Prune


class World:
    """The whole of it; `broken` collects what a step itself shows to be wrong."""

    def __init__(self, bug: Bug = Bug.NONE) -> None:
        self.bug = bug
        self.now = START
        self.record = record.first(active="rabat", by="tests", now=START, policy=LAX)
        self.chain: list[Record] = [self.record]
        self.heard: Record = self.record
        self.databases = {site: Database(site, in_recovery=site != "rabat") for site in SITES}
        self.journal: dict[tuple[At, str], Row] = {}
        self.messages: list[Message] = []
        self.asked_at: dict[str, int] = {}
        self.entity_of: dict[str, str] = {}
        self.promised: dict[str, Row] = {}
        self.acknowledged_at: dict[str, int] = {}
        self.answers: dict[str, set[str]] = {}
        self.unprotected: set[str] = set()
        self.broken: list[str] = []
        self._steps = 0

    # Phones, workers, datacenters, etcd

    def ask(self, key: str, entity: str) -> None:
        """A phone asks for the first time, or again, a worker that knows what it last heard."""
        if self.heard.serving is None:
            return
        self._steps += 1
        self.asked_at.setdefault(key, self._steps)
        entity = self.entity_of.setdefault(key, entity)
        self.messages.append(Request(key, entity, self.heard.epoch, self.heard.serving))

    def hear(self) -> None:
        """The workers hear the record as it is."""
        self.heard = self.record

    def lose(self, which: int) -> None:
        """One message is lost."""
        del self.messages[which % len(self.messages)]

    def deliver(self, which: int, *, again: bool) -> None:
        """One message arrives, out of order, and perhaps not for the last time."""
        self._steps += 1
        which %= len(self.messages)
        message = self.messages[which] if again else self.messages.pop(which)
        if isinstance(message, Request):
            self._execute(message)
        elif isinstance(message, Executed):
            self._executed(message)
        elif isinstance(message, Keep):
            self._keep(message)
        elif isinstance(message, Kept):
            self._acknowledge(message.row)
        elif self.record.epoch == message.epoch:
            for place in [place for place in self.journal if place[0] <= message.up_to]:
                del self.journal[place]

    def _execute(self, asked: Request) -> None:
        database = self.databases[asked.to]
        fenced = asked.epoch < database.highest_seen or database.fence != (asked.epoch, asked.to)
        if database.in_recovery or (fenced and self.bug is not Bug.NO_FENCE):
            database.highest_seen = max(database.highest_seen, asked.epoch)
            return
        if asked.epoch < database.highest_seen:
            self.broken.append(f"I6: {asked.to} knows {database.highest_seen} and writes at {asked.epoch}")
        database.highest_seen = max(database.highest_seen, asked.epoch)
        row = database.write(asked.key, asked.entity, dedup=self.bug is not Bug.NO_DEDUP)
        # A stored answer is known to be there from now on: its record stands at the present end.
        self.messages.append(Executed(msgspec.structs.replace(row, at=database.end), asked.epoch))

    def _executed(self, told: Executed) -> None:
        if self.bug is Bug.ANSWER_BEFORE_JOURNAL:
            if told.epoch < self.record.epoch:
                self.broken.append(f"I2: acknowledged at {told.epoch} after the claim of {self.record.epoch}")
            self.promised.setdefault(told.row.key, told.row)
            self._acknowledge(told.row)
        if told.epoch >= self.heard.epoch:
            self.messages.append(Keep(told.row, told.epoch))

    def _keep(self, asked: Keep) -> None:
        if self.record.epoch != asked.epoch:
            return
        if self.record.protection is Protection.NONE:
            self.unprotected.add(asked.row.key)
        else:
            self.journal[asked.row.at, asked.row.key] = asked.row
        # From here on the phone may be answered, so from here on it must last.
        self.promised.setdefault(asked.row.key, asked.row)
        self.messages.append(Kept(asked.row, asked.epoch))

    def _acknowledge(self, row: Row) -> None:
        self.acknowledged_at.setdefault(row.key, self._steps)
        self.answers.setdefault(row.key, set()).add(row.answer)

    # Replication and pruning

    def stream(self, site: str) -> None:
        """A standby applies one more row of its leader's log, as bytes: it asks no key."""
        database, leader = self.databases[site], self.databases[self._other(site)]
        if not database.in_recovery or leader.in_recovery or database.received >= len(leader.rows):
            return
        row = leader.rows[database.received]
        database.rows.append(row)
        database.received += 1
        database.timeline = leader.timeline
        if site not in {self.record.serving, self.record.target}:
            database.fence = leader.fence

    def look_for_what_is_confirmed(self, site: str) -> None:
        """The standby's director reads its position; what it asks of etcd may arrive much later."""
        database = self.databases[site]
        if self.record.active == site or self.record.phase not in SERVING_PHASES | FREEZE_PHASES:
            return
        if not database.in_recovery:
            return
        up_to = (database.timeline, database.received)
        if self.bug is Bug.PRUNE_BEFORE_CONFIRMATION:
            up_to = self.databases[self.record.active].end
        self.messages.append(Prune(up_to, self.record.epoch))

    # Directors

    def change(self, after: Record | Refusal) -> bool:
        """etcd's transaction, made from the record as it is."""
        self.now += 1
        if isinstance(after, Refusal):
            return False
        self.record = after
        self.chain.append(after)
        return True

    def claim(self) -> None:
        """The standby believes the worst, rightly or not."""
        target = self._other(self.record.active)
        if not self.databases[target].in_recovery:
            return
        after = record.claim(
            self.record, target=target, reason="dead", evidence={"sites": [1, 2]}, now=self.now, by=target
        )
        if self.bug is Bug.CLAIM_WITHOUT_RISE and isinstance(after, Record):
            after = msgspec.structs.replace(after, epoch=self.record.epoch)
        self.change(after)

    def freeze(self) -> None:
        """A human asks for a switchover."""
        target = self._other(self.record.active)
        if self.databases[target].in_recovery:
            self.change(
                record.freeze(
                    self.record, target=target, reason="planned", evidence={}, now=self.now, by="human"
                )
            )

    def seal(self) -> None:
        """The active site's director closes its fence, then says where its log ends."""
        if self.record.phase is Phase.FREEZING:
            database = self.databases[self.record.active]
            database.fence = (self.record.epoch, None)
            frozen = f"{database.timeline}-{len(database.rows)}"
            self.change(
                record.seal(
                    self.record, site=self.record.active, frozen_position=frozen, now=self.now, by="d"
                )
            )

    def claim_sealed(self) -> None:
        """The target has everything up to the frozen position."""
        if self.record.phase is Phase.SEALING and self.record.target is not None:
            _, _, length = (self.record.frozen_position or "").partition("-")
            if self.databases[self.record.target].received >= int(length):
                self.change(
                    record.claim_sealed(
                        self.record, site=self.record.target, now=self.now, by=self.record.target
                    )
                )

    def abort(self) -> None:
        """The move is given up."""
        self.change(record.abort(self.record, reason="human", now=self.now, by="human"))

    def promote(self) -> None:
        """PostgreSQL ends its recovery on a timeline of its own, and the fence rises."""
        if self.record.phase is Phase.PROMOTING and self.record.target is not None:
            database = self.databases[self.record.target]
            if database.in_recovery:
                database.in_recovery = False
                database.timeline = max(one.timeline for one in self.databases.values()) + 1
            database.fence = (self.record.epoch, database.site)
            database.highest_seen = max(database.highest_seen, self.record.epoch)

    def begin_replay(self) -> None:
        """The record says that the promotion has ended."""
        target = self.record.target
        if target is not None and not self.databases[target].in_recovery:
            switched = record.begin_replay(
                self.record, site=target, switch_position="1-1", now=self.now, by=target
            )
            if self.databases[target].fence == (self.record.epoch, target):
                self.change(switched)

    def replay(self, entity: str) -> None:
        """The next record of one ordering key that the target lacks is done there."""
        phases = {Phase.REPLAYING}
        if self.bug is Bug.REPLAY_BEFORE_PROMOTION_ENDS:
            phases.add(Phase.PROMOTING)
        if self.record.phase not in phases or self.record.target is None:
            return
        database = self.databases[self.record.target]
        for _, row in sorted(self.journal.items()):
            if row.entity == entity and database.row(row.key) is None:
                database.write(row.key, row.entity, dedup=True, answer=row.answer)
                return

    def move(self, entity: str) -> None:
        """Records of what is done get a new place, where the new standby will confirm them."""
        if self.record.phase is not Phase.REPLAYING or self.record.target is None:
            return
        database = self.databases[self.record.target]
        for place, row in list(self.journal.items()):
            if row.entity == entity and database.row(row.key) is not None and place[0] != database.end:
                del self.journal[place]
                self.journal[database.end, row.key] = msgspec.structs.replace(row, at=database.end)

    def activate(self) -> None:
        """The replay has gone through the whole journal."""
        target = self.record.target
        if self.record.phase is not Phase.REPLAYING or target is None:
            return
        if all(self.databases[target].row(row.key) is not None for row in self.journal.values()):
            self.change(record.activate(self.record, site=target, now=self.now, by=target))

    def raise_fence(self) -> None:
        """The serving site's director hears the record and lets its datacenter write at its epoch."""
        site = self.record.serving
        if site is not None and not self.databases[site].in_recovery:
            database = self.databases[site]
            database.fence = (self.record.epoch, site)
            database.highest_seen = max(database.highest_seen, self.record.epoch)

    def rejoin(self) -> None:
        """A human's order: what was left behind is rewound and follows again."""
        active = self.record.serving
        if active is None or self.databases[active].in_recovery:
            return
        leader, database = self.databases[active], self.databases[self._other(active)]
        common = 0
        while (
            common < min(len(leader.rows), len(database.rows))
            and leader.rows[common] == database.rows[common]
        ):
            common += 1
        database.in_recovery = True
        database.rows = leader.rows[:common]
        database.received = common
        database.timeline = leader.timeline
        database.fence = leader.fence

    def protect(self, protection: Protection) -> None:
        """The journal reaches its bound, or comes back; JOURNAL again only once the standby lacks nothing."""
        standby = self.databases[self._other(self.record.active)]
        lacking = not standby.in_recovery or any(standby.row(key) is None for key in self.unprotected)
        if protection is Protection.JOURNAL and lacking:
            return
        done = self.change(
            record.protect(self.record, protection=protection, reason="bound", now=self.now, by="d")
        )
        if done and protection is Protection.JOURNAL:
            self.unprotected.clear()

    @staticmethod
    def _other(site: str) -> str:
        return SITES[1 - SITES.index(site)]
