"""What the school records do by themselves when relations change: raise generations, leave a notice.

Invariant: statement triggers see every changed row, so that a parent loses a revoked child however the link was cut;
an outbox row carries the epoch of the fence and never more than `TAGS_PER_NOTICE_MAX` tags.
"""

from __future__ import annotations

TAGS_PER_NOTICE_MAX = 64
OUTBOX_CHANNEL = "massar_outbox"

_ANNOUNCE = f"""
CREATE OR REPLACE FUNCTION massar_announce(changed text[], stale text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO generations AS g (subject, generation)
        SELECT DISTINCT s, 2 FROM unnest(changed) AS s WHERE s IS NOT NULL ORDER BY s
        ON CONFLICT (subject) DO UPDATE SET generation = g.generation + 1;
    INSERT INTO outbox (epoch, tags)
        SELECT coalesce((SELECT epoch FROM fence WHERE id = 1), 0), array_agg(tag ORDER BY tag)
        FROM (SELECT tag, (row_number() OVER (ORDER BY tag) - 1) / {TAGS_PER_NOTICE_MAX} AS part
              FROM (SELECT DISTINCT t AS tag FROM unnest(stale) AS t WHERE t IS NOT NULL) AS once) AS parts
        GROUP BY part ORDER BY part;
    IF FOUND THEN
        PERFORM pg_notify('{OUTBOX_CHANNEL}', '');
    END IF;
END $$
"""  # noqa: S608 - only constants of this module

_QUIET = "IF current_setting('massar.bulk_load', true) = 'on' THEN RETURN NULL; END IF;"

_GUARDIANSHIPS = f"""
CREATE OR REPLACE FUNCTION massar_guardianships_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE people text[];
BEGIN
    {_QUIET}
    IF TG_OP = 'INSERT' THEN
        people := ARRAY(SELECT DISTINCT guardian FROM new_rows);
    ELSIF TG_OP = 'DELETE' THEN
        people := ARRAY(SELECT DISTINCT guardian FROM old_rows);
    ELSE
        people := ARRAY(SELECT guardian FROM new_rows UNION SELECT guardian FROM old_rows);
    END IF;
    PERFORM massar_announce(people, ARRAY(
        SELECT kind || p FROM unnest(people) AS p, unnest(ARRAY['relations:', 'profile:']) AS kind));
    RETURN NULL;
END $$
"""  # noqa: S608 - only constants of this module

_ASSIGNMENTS = f"""
CREATE OR REPLACE FUNCTION massar_assignments_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE people text[];
BEGIN
    {_QUIET}
    IF TG_OP = 'INSERT' THEN
        people := ARRAY(SELECT DISTINCT teacher FROM new_rows);
    ELSIF TG_OP = 'DELETE' THEN
        people := ARRAY(SELECT DISTINCT teacher FROM old_rows);
    ELSE
        people := ARRAY(SELECT teacher FROM new_rows UNION SELECT teacher FROM old_rows);
    END IF;
    PERFORM massar_announce(people, ARRAY(
        SELECT kind || p FROM unnest(people) AS p, unnest(ARRAY['relations:', 'profile:', 'assignments:']) AS kind));
    RETURN NULL;
END $$
"""  # noqa: S608 - only constants of this module

# A pupil who changes class changes his own relations, his guardians' (they name the class), those of both classes'
# teachers, and both rosters. Other columns of a pupil are nobody's relation.
_PUPILS = f"""
CREATE OR REPLACE FUNCTION massar_pupils_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE moved text[]; places text[]; people text[];
BEGIN
    {_QUIET}
    IF TG_OP = 'INSERT' THEN
        moved := ARRAY(SELECT id FROM new_rows);
        places := ARRAY(SELECT DISTINCT class_id FROM new_rows);
    ELSIF TG_OP = 'DELETE' THEN
        moved := ARRAY(SELECT id FROM old_rows);
        places := ARRAY(SELECT DISTINCT class_id FROM old_rows);
    ELSE
        moved := ARRAY(SELECT o.id FROM old_rows o JOIN new_rows n USING (id)
                       WHERE o.class_id IS DISTINCT FROM n.class_id);
        IF cardinality(moved) = 0 THEN RETURN NULL; END IF;
        places := ARRAY(SELECT class_id FROM old_rows WHERE id = ANY (moved)
                        UNION SELECT class_id FROM new_rows WHERE id = ANY (moved));
    END IF;
    people := moved || ARRAY(SELECT guardian FROM guardianships WHERE pupil = ANY (moved) AND status = 'active')
                    || ARRAY(SELECT teacher FROM assignments WHERE class_id = ANY (places));
    PERFORM massar_announce(people,
        ARRAY(SELECT kind || p FROM unnest(people) AS p, unnest(ARRAY['relations:', 'profile:']) AS kind)
        || ARRAY(SELECT 'roster:' || c FROM unnest(places) AS c));
    RETURN NULL;
END $$
"""  # noqa: S608 - only constants of this module

_ROWS_OF = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "OLD TABLE AS old_rows",
}


def _triggers_on(table: str) -> list[str]:
    return [
        f"CREATE OR REPLACE TRIGGER massar_{table}_{event.lower()} AFTER {event} ON {table} "
        f"REFERENCING {rows} FOR EACH STATEMENT EXECUTE FUNCTION massar_{table}_changed()"
        for event, rows in _ROWS_OF.items()
    ]


TRIGGERS: tuple[str, ...] = (
    _ANNOUNCE,
    _GUARDIANSHIPS,
    _ASSIGNMENTS,
    _PUPILS,
    *_triggers_on("guardianships"),
    *_triggers_on("assignments"),
    *_triggers_on("pupils"),
)
