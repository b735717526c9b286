"""The school records: the tables a sandbox datacenter keeps, in the column order that a bulk load fills.

Invariant: whoever changes a guardianship, an assignment or a pupil's class raises the generation of everyone whose
relations change and leaves an outbox row, in the same transaction (`triggers.py`), whatever program did it.

A bulk load of an empty database says `SET LOCAL massar.bulk_load = 'on'` in its transaction: nobody has cached
anything yet, so nobody needs a notice. The one row of `fence` is written by whoever starts the site, not here.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Time,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sandbox.datacenter.triggers import TRIGGERS

metadata = MetaData()


def _text(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=null)


def _instant(name: str, *, null: bool = False) -> Column[object]:
    default = None if null else func.clock_timestamp()
    return Column(name, DateTime(timezone=True), nullable=null, server_default=default)


# --- territory and reference -------------------------------------------------------------------------------------

regions = Table("regions", metadata, _text("code", key=True), _text("name_ar"), _text("name_fr"))

provinces = Table(
    "provinces", metadata, _text("code", key=True), _text("region"), _text("name_ar"), _text("name_fr")
)

schools = Table(
    "schools",
    metadata,
    _text("gresa", key=True),
    _text("name_ar"),
    _text("name_fr"),
    _text("province"),
    _text("cycle"),
)

levels = Table(
    "levels",
    metadata,
    _text("code", key=True),
    _text("cycle"),
    _text("name_ar"),
    _text("name_fr"),
    Column("rank", Integer, nullable=False),
)

subjects = Table("subjects", metadata, _text("code", key=True), _text("name_ar"), _text("name_fr"))

level_subjects = Table(
    "level_subjects",
    metadata,
    _text("level", key=True),
    _text("subject", key=True),
    Column("coefficient", Numeric(4, 1), nullable=False),
    Column("hours", Numeric(3, 1), nullable=False),
    Column("controls", Integer, nullable=False),
    Column("control_weight", Numeric(3, 2), nullable=False),
    CheckConstraint("control_weight BETWEEN 0 AND 1", name="control_weight_is_a_share"),
)

calendar = Table(
    "calendar",
    metadata,
    Column(
        "id", Integer, CheckConstraint("id = 1", name="one_calendar"), primary_key=True, autoincrement=False
    ),
    Column("year", Integer, nullable=False),
    Column("session", Integer, nullable=False),
    _text("week"),
    Column("today", Date, nullable=False),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
    _instant("updated_at"),
)

# --- people and relations ----------------------------------------------------------------------------------------

teachers = Table(
    "teachers",
    metadata,
    _text("id", key=True),
    Column("ppr", Text, nullable=False, unique=True),
    _text("name_ar"),
    _text("name_fr"),
    _text("school"),
)

classes = Table(
    "classes",
    metadata,
    _text("id", key=True),
    _text("school"),
    _text("level"),
    _text("name"),
    Index("classes_by_school", "school"),
)

assignments = Table(
    "assignments",
    metadata,
    _text("teacher"),
    _text("class_id", key=True),
    _text("subject", key=True),
    Column("hours", Numeric(3, 1), nullable=False),
    Index("assignments_by_teacher", "teacher"),
)

pupils = Table(
    "pupils",
    metadata,
    _text("id", key=True),
    Column("massar_code", Text, nullable=False, unique=True),
    _text("name_ar"),
    _text("name_fr"),
    _text("class_id"),
    Column("number", Integer, nullable=False),
    Column("birth_date", Date, nullable=False),
    Index("pupils_by_class", "class_id", "number"),
)

dispensations = Table("dispensations", metadata, _text("pupil", key=True), _text("subject", key=True))

guardians = Table(
    "guardians",
    metadata,
    _text("id", key=True),
    _text("name_ar"),
    _text("name_fr"),
    _text("phone", null=True),
)

guardianships = Table(
    "guardianships",
    metadata,
    _text("guardian", key=True),
    _text("pupil", key=True),
    _text("kind"),
    _text("status"),
    _instant("updated_at"),
    CheckConstraint("status IN ('active', 'revoked')", name="guardianship_status"),
    Index("guardianships_by_pupil", "pupil"),
)

# --- the week ----------------------------------------------------------------------------------------------------

lessons = Table(
    "lessons",
    metadata,
    _text("class_id", key=True),
    Column("day", Integer, CheckConstraint("day BETWEEN 1 AND 6", name="school_day"), primary_key=True),
    Column("start_at", Time, primary_key=True),
    Column("end_at", Time, nullable=False),
    _text("subject"),
    _text("teacher"),
    _text("room"),
)

lesson_changes = Table(
    "lesson_changes",
    metadata,
    _text("class_id", key=True),
    _text("week", key=True),
    Column("day", Integer, primary_key=True),
    Column("start_at", Time, primary_key=True),
    _text("kind"),
    _text("room", null=True),
    CheckConstraint("kind IN ('cancelled', 'moved')", name="lesson_change_kind"),
)

# --- marks -------------------------------------------------------------------------------------------------------

gradebooks = Table(
    "gradebooks",
    metadata,
    _text("class_id", key=True),
    _text("subject", key=True),
    Column("session", Integer, primary_key=True),
    Column("locked", Boolean, nullable=False),
    Column("published", Boolean, nullable=False),
    _instant("deadline", null=True),
    _instant("updated_at"),
)

controls = Table(
    "controls",
    metadata,
    _text("class_id", key=True),
    _text("subject", key=True),
    Column("session", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("held_on", Date, nullable=False),
)

marks = Table(
    "marks",
    metadata,
    _text("pupil", key=True),
    _text("subject", key=True),
    Column("session", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    _text("class_id"),
    _text("state"),
    Column("mark", Numeric(4, 2), nullable=True),
    Column("version", Integer, nullable=False),
    _instant("updated_at"),
    CheckConstraint("state IN ('marked', 'absent', 'dispensed')", name="mark_state"),
    CheckConstraint("(state = 'marked') = (mark IS NOT NULL)", name="mark_only_when_marked"),
    CheckConstraint("mark BETWEEN 0 AND 20", name="mark_out_of_twenty"),
    CheckConstraint("version >= 1", name="mark_version"),
    Index("marks_by_gradebook", "class_id", "session", "subject"),
)

activities = Table(
    "activities",
    metadata,
    _text("pupil", key=True),
    _text("subject", key=True),
    Column("session", Integer, primary_key=True),
    Column("mark", Numeric(4, 2), CheckConstraint("mark BETWEEN 0 AND 20"), nullable=False),
)

# --- school life -------------------------------------------------------------------------------------------------

absences = Table(
    "absences",
    metadata,
    _text("id", key=True),
    _text("pupil"),
    _text("class_id"),
    Column("held_on", Date, nullable=False),
    Column("start_at", Time, nullable=False),
    Column("end_at", Time, nullable=False),
    _text("kind"),
    Column("justified", Boolean, nullable=False),
    _text("reason", null=True),
    _instant("observed_at"),
    _instant("updated_at"),
    CheckConstraint("kind IN ('absence', 'late')", name="absence_kind"),
    UniqueConstraint("pupil", "held_on", "start_at", name="one_absence_a_lesson"),
)

homework = Table(
    "homework",
    metadata,
    _text("id", key=True),
    _text("class_id"),
    _text("subject"),
    _text("teacher"),
    _text("body"),
    Column("assigned_on", Date, nullable=False),
    Column("due_on", Date, nullable=False),
    _instant("updated_at"),
    Index("homework_by_class", "class_id", "due_on", "id"),
)

homework_done = Table("homework_done", metadata, _text("pupil", key=True), _text("homework", key=True))

announcements = Table(
    "announcements",
    metadata,
    _text("id", key=True),
    _text("level"),
    _text("scope"),  # '' for the nation, else a region's or province's code, a GRESA code or a class id
    _text("title_ar"),
    _text("title_fr"),
    _text("body_ar"),
    _text("body_fr"),
    Column("valid_from", Date, nullable=False),
    Column("valid_to", Date, nullable=False),
    _instant("updated_at"),
    CheckConstraint(
        "level IN ('national', 'region', 'province', 'school', 'class')", name="announcement_level"
    ),
    Index("announcements_by_scope", "scope"),
)

# --- what keeps writes honest ------------------------------------------------------------------------------------

fence = Table(
    "fence",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_fence"), primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    _text("site"),
    _instant("heard_at"),
    # In a unique index, so that raising the epoch takes a lock which conflicts with FOR KEY SHARE and waits for the
    # writes that checked it, while moving `heard_at` four times a second waits for nobody.
    UniqueConstraint("id", "epoch", name="fence_epoch_is_a_key"),
    postgresql_with={"fillfactor": "10"},
)

idempotency = Table(
    "idempotency",
    metadata,
    _text("principal", key=True),
    _text("route", key=True),
    _text("key", key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False),
    _instant("decided_at"),
    # Where the log stood inside the transaction: of two writes that took turns, the later one has the higher number.
    Column(
        "order_lsn",
        BigInteger,
        nullable=False,
        server_default=text("(pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"),
    ),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    # The fence's when the row was written: what an epoch did not get to send, a later one does not send for it.
    Column("epoch", BigInteger, nullable=False),
    Column("tags", ARRAY(Text), nullable=False),
    _instant("created_at"),
    _instant("delivered_at", null=True),
    Index("outbox_waiting", "id", postgresql_where=text("delivered_at IS NULL")),
)

generations = Table(
    "generations", metadata, _text("subject", key=True), Column("generation", BigInteger, nullable=False)
)


def asyncpg_url(dsn: str) -> str:
    """The same database for SQLAlchemy's asyncpg dialect; plain `postgresql://` would mean another driver."""
    scheme, separator, rest = dsn.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError("not a PostgreSQL address: it begins with postgresql://")
    return f"postgresql+asyncpg://{rest}"


async def create(dsn: str) -> None:
    """Make every table, index and trigger of the school records; harmless when they exist already."""
    engine = create_async_engine(asyncpg_url(dsn), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            for statement in TRIGGERS:
                await connection.exec_driver_sql(statement)
    finally:
        await engine.dispose()
