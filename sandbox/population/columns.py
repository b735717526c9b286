"""The columns of every table that the synthetic country fills, in the order of its rows.

Invariant: the school records are those of `sandbox.datacenter.tables`, `accounts` is the gateway's own.
"""

from __future__ import annotations

RECORDS: dict[str, tuple[str, ...]] = {
    table: tuple(columns.split())
    for table, columns in {
        "regions": "code name_ar name_fr",
        "provinces": "code region name_ar name_fr",
        "schools": "gresa name_ar name_fr province cycle",
        "levels": "code cycle name_ar name_fr rank",
        "subjects": "code name_ar name_fr",
        "level_subjects": "level subject coefficient hours controls control_weight",
        "calendar": "id year session week today first_day last_day updated_at",
        "teachers": "id ppr name_ar name_fr school",
        "classes": "id school level name",
        "assignments": "teacher class_id subject hours",
        "pupils": "id massar_code name_ar name_fr class_id number birth_date",
        "dispensations": "pupil subject",
        "guardians": "id name_ar name_fr phone",
        "guardianships": "guardian pupil kind status updated_at",
        "lessons": "class_id day start_at end_at subject teacher room",
        "lesson_changes": "class_id week day start_at kind room",
        "gradebooks": "class_id subject session locked published deadline updated_at",
        "controls": "class_id subject session number held_on",
        "marks": "pupil subject session number class_id state mark version updated_at",
        "activities": "pupil subject session mark",
        "absences": "id pupil class_id held_on start_at end_at kind justified reason observed_at updated_at",
        "homework": "id class_id subject teacher body assigned_on due_on updated_at",
        "homework_done": "pupil homework",
        "announcements": "id level scope title_ar title_fr body_ar body_fr valid_from valid_to updated_at",
    }.items()
}
ACCOUNTS = "accounts"
ACCOUNTS_COLUMNS = (
    "id",
    "app",
    "login",
    "role",
    "subject",
    "name_ar",
    "name_fr",
    "password_hash",
    "status",
    "created_at",
)
TABLES = (*RECORDS, ACCOUNTS)
