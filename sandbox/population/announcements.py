"""Announcements at the five territorial levels: nation, region, province, school, class.

Invariant: every region and province, every school and every class has at least one that is valid today.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

import msgspec

from sandbox.population.calendar import CALENDAR, instant
from sandbox.population.identifiers import opaque_id, stream
from sandbox.population.schools import Locality
from sandbox.population.territory import PROVINCES, REGIONS

Row = tuple[object, ...]


class Text(msgspec.Struct, frozen=True):
    """An announcement's words; `{ar}` and `{fr}` stand for the name of the scope."""

    title_ar: str
    title_fr: str
    body_ar: str
    body_fr: str


_NATIONAL = (
    Text(
        "مقرر تنظيم السنة الدراسية",
        "Organisation de l'année scolaire",
        "تنتهي فروض المراقبة المستمرة للدورة الأولى قبل متم شهر يناير، ويعلن عن نتائجها على منظومة مسار.",
        "Les contrôles continus de la première session prennent fin avant la fin de janvier ; les résultats "
        "paraissent dans Massar.",
    ),
    Text(
        "حملة وطنية للصحة المدرسية",
        "Campagne nationale de santé scolaire",
        "تنظم الفحوصات الطبية بالمؤسسات التعليمية خلال شهري نونبر ودجنبر.",
        "Les visites médicales ont lieu dans les établissements en novembre et en décembre.",
    ),
)
_REGION = (
    Text(
        "الأولمبياد الجهوية في الرياضيات",
        "Olympiades régionales de mathématiques",
        "تنظم أكاديمية جهة {ar} الأولمبياد الجهوية في الرياضيات يوم السبت 5 دجنبر 2026.",
        "L'académie de {fr} organise les olympiades régionales de mathématiques le samedi 5 décembre 2026.",
    ),
    Text(
        "أسبوع القراءة",
        "Semaine de la lecture",
        "تدعو أكاديمية جهة {ar} التلميذات والتلاميذ إلى المشاركة في أسبوع القراءة.",
        "L'académie de {fr} invite les élèves à prendre part à la semaine de la lecture.",
    ),
)
_PROVINCE = (
    Text(
        "البطولة الإقليمية المدرسية",
        "Championnat scolaire provincial",
        "تعلن المديرية الإقليمية ({ar}) عن انطلاق البطولة المدرسية في العدو الريفي.",
        "La direction provinciale ({fr}) annonce le début du championnat scolaire de cross-country.",
    ),
    Text(
        "النقل المدرسي",
        "Transport scolaire",
        "تعلم المديرية الإقليمية ({ar}) بتعديل مواقيت النقل المدرسي ابتداء من يوم الاثنين المقبل.",
        "La direction provinciale ({fr}) annonce de nouveaux horaires de transport scolaire dès lundi prochain.",
    ),
)
_SCHOOL = (
    Text(
        "لقاء مع الأسر",
        "Rencontre avec les familles",
        "يسر إدارة {ar} دعوة الأسر إلى لقاء مع هيئة التدريس يوم السبت 28 نونبر على الساعة الثالثة زوالا.",
        "{fr} invite les familles à rencontrer les enseignants le samedi 28 novembre à 15 h.",
    ),
    Text(
        "الأبواب المفتوحة لخزانة المؤسسة",
        "Portes ouvertes de la bibliothèque",
        "تفتح خزانة {ar} أبوابها كل يوم أربعاء بعد الزوال.",
        "La bibliothèque de l'établissement ({fr}) est ouverte chaque mercredi après-midi.",
    ),
)
_CLASS = (
    Text(
        "فرض محروس",
        "Contrôle surveillé",
        "يجرى الفرض المقبل لقسم {ar} في القاعة المعتادة؛ يرجى إحضار الأدوات اللازمة.",
        "Le prochain contrôle de la classe {fr} a lieu dans la salle habituelle ; apporter le matériel nécessaire.",
    ),
    Text(
        "خرجة تربوية",
        "Sortie éducative",
        "تنظم خرجة تربوية لفائدة قسم {ar}؛ المرجو تسليم الإذن الأبوي قبل نهاية الأسبوع.",
        "Une sortie éducative est prévue pour la classe {fr} ; remettre l'autorisation parentale avant la fin de "
        "la semaine.",
    ),
)
_AGE_DAYS_MAX = 20
_LIFE_DAYS_MIN = 14
_LIFE_DAYS_MAX = 60


def territory_rows(seed: int) -> Iterator[Row]:
    """National, regional and provincial rows of `announcements`."""
    rng = stream(seed, "announcements")
    for text in _NATIONAL:
        yield _row(rng, text, level="national", scope="")
    for region in REGIONS:
        yield _row(
            rng,
            rng.choice(_REGION),
            level="region",
            scope=region.code,
            names=(region.name_ar, region.name_fr),
        )
    for province in PROVINCES:
        names = (province.name_ar, province.name_fr)
        yield _row(rng, rng.choice(_PROVINCE), level="province", scope=province.code, names=names)


def local_rows(locality: Locality) -> Iterator[Row]:
    """Rows of `announcements` of a locality's schools and classes."""
    rng = locality.rng("announcements")
    for school in locality.schools:
        for text in _SCHOOL:
            yield _row(rng, text, level="school", scope=school.gresa, names=(school.name_ar, school.name_fr))
        for room in school.classes:
            yield _row(rng, rng.choice(_CLASS), level="class", scope=room.id, names=(room.name, room.name))


def _row(rng: Random, text: Text, *, level: str, scope: str, names: tuple[str, str] = ("", "")) -> Row:
    valid_from, valid_to = _validity(rng)
    ar, fr = names
    return (
        opaque_id(rng),
        level,
        scope,
        text.title_ar,
        text.title_fr,
        text.body_ar.format(ar=ar),
        text.body_fr.format(fr=fr),
        valid_from,
        valid_to,
        instant(valid_from),
    )


def _validity(rng: Random) -> tuple[date, date]:
    """From some day before today to some day after it."""
    valid_from = CALENDAR.today - timedelta(days=rng.randint(1, _AGE_DAYS_MAX))
    return valid_from, CALENDAR.today + timedelta(days=rng.randint(_LIFE_DAYS_MIN, _LIFE_DAYS_MAX))
