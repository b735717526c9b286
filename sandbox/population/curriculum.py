"""What is taught: cycles, levels, subjects, and per level each subject's coefficient, hours and contrôles.

Invariant: weights and coefficients are data of the country, never rules in code; a week of any level fits the
22 two-hour slots of `timetables`.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec


class Cycle(StrEnum):
    """A cycle of schooling; a school serves one."""

    PRIMAIRE = "primaire"
    COLLEGIAL = "collegial"
    QUALIFIANT = "qualifiant"


class Level(msgspec.Struct, frozen=True):
    """A level (`nefstat`); `rank` is the year of schooling, 1 to 12."""

    code: str
    cycle: Cycle
    name_ar: str
    name_fr: str
    rank: int


class Subject(msgspec.Struct, frozen=True):
    """A subject under its code, in both languages."""

    code: str
    name_ar: str
    name_fr: str


class Taught(msgspec.Struct, frozen=True):
    """A subject at a level: weekly `hours`, contrôles per session, their weight against the activities."""

    subject: Subject
    coefficient: int
    hours: int
    controls: int
    control_weight: Decimal


SUBJECTS = {
    code: Subject(code=code, name_ar=name_ar, name_fr=name_fr)
    for code, name_ar, name_fr in (
        ("AR", "اللغة العربية", "Langue arabe"),
        ("AMZ", "اللغة الأمازيغية", "Langue amazighe"),
        ("FR", "اللغة الفرنسية", "Langue française"),
        ("EN", "اللغة الإنجليزية", "Langue anglaise"),
        ("EI", "التربية الإسلامية", "Éducation islamique"),
        ("HG", "الاجتماعيات", "Histoire-géographie"),
        ("MATH", "الرياضيات", "Mathématiques"),
        ("AS", "النشاط العلمي", "Activité scientifique"),
        ("PC", "الفيزياء والكيمياء", "Physique-chimie"),
        ("SVT", "علوم الحياة والأرض", "Sciences de la vie et de la Terre"),
        ("TEC", "التكنولوجيا", "Technologie"),
        ("INF", "المعلوميات", "Informatique"),
        ("ART", "التربية الفنية", "Éducation artistique"),
        ("EPS", "التربية البدنية", "Éducation physique et sportive"),
        ("PHI", "الفلسفة", "Philosophie"),
        ("TRA", "الترجمة", "Traduction"),
        ("SI", "علوم المهندس", "Sciences de l'ingénieur"),
        ("ECO", "الاقتصاد العام والإحصاء", "Économie générale et statistiques"),
        ("CPT", "المحاسبة والرياضيات المالية", "Comptabilité et mathématiques financières"),
        ("ORG", "الاقتصاد والتنظيم الإداري للمقاولات", "Économie et organisation des entreprises"),
        ("DRT", "القانون", "Droit"),
    )
}

_LEVELS = (
    ("1AP", Cycle.PRIMAIRE, "السنة الأولى ابتدائي", "1re année primaire", 1),
    ("2AP", Cycle.PRIMAIRE, "السنة الثانية ابتدائي", "2e année primaire", 2),
    ("3AP", Cycle.PRIMAIRE, "السنة الثالثة ابتدائي", "3e année primaire", 3),
    ("4AP", Cycle.PRIMAIRE, "السنة الرابعة ابتدائي", "4e année primaire", 4),
    ("5AP", Cycle.PRIMAIRE, "السنة الخامسة ابتدائي", "5e année primaire", 5),
    ("6AP", Cycle.PRIMAIRE, "السنة السادسة ابتدائي", "6e année primaire", 6),
    (
        "1APIC",
        Cycle.COLLEGIAL,
        "الأولى إعدادي - مسار دولي",
        "1re année collégiale, parcours international",
        7,
    ),
    (
        "2APIC",
        Cycle.COLLEGIAL,
        "الثانية إعدادي - مسار دولي",
        "2e année collégiale, parcours international",
        8,
    ),
    (
        "3APIC",
        Cycle.COLLEGIAL,
        "الثالثة إعدادي - مسار دولي",
        "3e année collégiale, parcours international",
        9,
    ),
    (
        "TCSF",
        Cycle.QUALIFIANT,
        "جذع مشترك علمي - خيار فرنسية",
        "Tronc commun scientifique, option français",
        10,
    ),
    (
        "TCSA",
        Cycle.QUALIFIANT,
        "جذع مشترك علمي - خيار إنجليزية",
        "Tronc commun scientifique, option anglais",
        10,
    ),
    (
        "TCLSH",
        Cycle.QUALIFIANT,
        "جذع مشترك آداب وعلوم إنسانية",
        "Tronc commun lettres et sciences humaines",
        10,
    ),
    (
        "TCTF",
        Cycle.QUALIFIANT,
        "جذع مشترك تكنولوجي - خيار فرنسية",
        "Tronc commun technologique, option français",
        10,
    ),
    (
        "1BACSEF",
        Cycle.QUALIFIANT,
        "الأولى باكالوريا علوم تجريبية - خيار فرنسية",
        "1re bac sciences expérimentales, option français",
        11,
    ),
    (
        "1BACSMF",
        Cycle.QUALIFIANT,
        "الأولى باكالوريا علوم رياضية - خيار فرنسية",
        "1re bac sciences mathématiques, option français",
        11,
    ),
    ("1BACSH", Cycle.QUALIFIANT, "الأولى باكالوريا علوم إنسانية", "1re bac sciences humaines", 11),
    ("1BACLET", Cycle.QUALIFIANT, "الأولى باكالوريا آداب", "1re bac lettres", 11),
    (
        "1BACSEG",
        Cycle.QUALIFIANT,
        "الأولى باكالوريا علوم اقتصادية وتدبير",
        "1re bac sciences économiques et gestion",
        11,
    ),
    ("2BACSMA", Cycle.QUALIFIANT, "الثانية باكالوريا علوم رياضية أ", "2e bac sciences mathématiques A", 12),
    ("2BACSMB", Cycle.QUALIFIANT, "الثانية باكالوريا علوم رياضية ب", "2e bac sciences mathématiques B", 12),
    (
        "2BACSPF",
        Cycle.QUALIFIANT,
        "الثانية باكالوريا علوم فيزيائية - خيار فرنسية",
        "2e bac sciences physiques, option français",
        12,
    ),
    (
        "2BACSVTF",
        Cycle.QUALIFIANT,
        "الثانية باكالوريا علوم الحياة والأرض - خيار فرنسية",
        "2e bac sciences de la vie et de la Terre, option français",
        12,
    ),
    ("2BACSEC", Cycle.QUALIFIANT, "الثانية باكالوريا علوم اقتصادية", "2e bac sciences économiques", 12),
    (
        "2BACSGC",
        Cycle.QUALIFIANT,
        "الثانية باكالوريا علوم التدبير المحاسباتي",
        "2e bac sciences de gestion comptable",
        12,
    ),
    ("2BACSH", Cycle.QUALIFIANT, "الثانية باكالوريا علوم إنسانية", "2e bac sciences humaines", 12),
    ("2BACLET", Cycle.QUALIFIANT, "الثانية باكالوريا آداب", "2e bac lettres", 12),
)
LEVELS = {
    code: Level(code=code, cycle=cycle, name_ar=name_ar, name_fr=name_fr, rank=rank)
    for code, cycle, name_ar, name_fr, rank in _LEVELS
}

# Per level: `SUBJECT coefficient hours contrôles` for each subject.
_LOWER_PRIMARY = "AR 6 9 3, EI 3 3 2, AMZ 2 3 2, FR 4 4 3, MATH 6 5 3, AS 2 2 2, ART 1 2 2, EPS 1 2 2"
_UPPER_PRIMARY = (
    "AR 5 7 3, EI 3 3 2, AMZ 2 3 2, HG 2 2 2, FR 5 6 3, MATH 5 5 3, AS 2 2 2, ART 1 1 2, EPS 1 1 2"
)
_COLLEGE = (
    "AR 5 4 3, FR 5 4 3, EN 3 2 3, EI 3 2 3, HG 3 3 3, MATH 5 5 4, PC 3 3 3, SVT 3 3 3, TEC 1 2 2, "
    "INF 1 1 2, ART 1 1 2, EPS 2 2 2"
)
_TRACKS: dict[str, str] = {
    "TCS": "AR 2 2 3, FR 4 4 3, EN 3 3 3, EI 2 2 2, HG 2 2 3, PHI 2 2 2, MATH 7 5 4, PC 5 4 3, SVT 5 3 3, INF 2 2 2, EPS 2 2 2",
    "TCLSH": "AR 5 5 3, FR 4 5 3, EN 4 4 3, EI 2 2 2, HG 4 4 3, PHI 3 3 2, MATH 2 2 3, SVT 1 1 2, INF 2 2 2, EPS 2 2 2",
    "TCTF": "AR 2 2 3, FR 4 4 3, EN 3 3 3, EI 2 2 2, HG 2 2 3, PHI 2 2 2, MATH 6 5 4, PC 5 4 3, SI 6 5 3, INF 2 2 2, EPS 2 2 2",
    "1BACSEF": "AR 2 2 3, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 3, PHI 2 2 2, MATH 7 5 4, PC 7 4 3, SVT 7 4 3, TRA 2 2 2, EPS 2 2 2",
    "1BACSMF": "AR 2 2 3, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 3, PHI 2 2 2, MATH 9 7 4, PC 7 5 3, SVT 3 2 3, TRA 2 2 2, EPS 2 2 2",
    "1BACSH": "AR 4 4 3, FR 4 4 3, EN 3 4 3, EI 2 2 2, HG 4 4 3, PHI 4 4 3, MATH 1 2 3, SVT 1 1 2, TRA 2 2 2, EPS 2 2 2",
    "1BACLET": "AR 4 5 3, FR 4 4 3, EN 4 5 3, EI 2 2 2, HG 3 3 3, PHI 3 3 3, MATH 1 2 3, SVT 1 1 2, TRA 2 2 2, EPS 2 2 2",
    "1BACSEG": "AR 2 2 3, FR 4 4 3, EN 3 3 3, EI 2 2 2, HG 2 2 3, PHI 2 2 2, MATH 4 4 4, ECO 3 3 3, CPT 4 4 3, ORG 3 3 3, DRT 1 1 2, INF 2 2 2, EPS 2 2 2",
    "2BACSMA": "AR 2 2 2, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 2, PHI 2 2 2, MATH 9 7 4, PC 7 6 3, SVT 3 2 3, TRA 2 2 2, EPS 4 2 2",
    "2BACSMB": "AR 2 2 2, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 2, PHI 2 2 2, MATH 9 7 4, PC 7 6 3, SI 3 4 3, TRA 2 2 2, EPS 4 2 2",
    "2BACSPF": "AR 2 2 2, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 2, PHI 2 2 2, MATH 7 5 4, PC 7 6 3, SVT 5 4 3, TRA 2 2 2, EPS 4 2 2",
    "2BACSVTF": "AR 2 2 2, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 2, PHI 2 2 2, MATH 7 5 4, PC 5 4 3, SVT 7 6 3, TRA 2 2 2, EPS 4 2 2",
    "2BACSEC": "AR 2 2 2, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 2, PHI 2 2 2, MATH 4 4 4, ECO 6 4 3, CPT 4 4 3, ORG 3 3 3, DRT 1 1 2, INF 1 2 2, EPS 4 2 2",
    "2BACSGC": "AR 2 2 2, FR 4 4 3, EN 2 3 3, EI 2 2 2, HG 2 2 2, PHI 2 2 2, MATH 4 4 4, ECO 3 3 3, CPT 6 5 3, ORG 6 3 3, DRT 1 1 2, INF 1 2 2, EPS 4 2 2",
    "2BACSH": "AR 3 4 3, FR 4 4 3, EN 4 4 3, EI 2 2 2, HG 7 5 3, PHI 7 5 3, MATH 1 2 3, TRA 2 2 2, EPS 4 2 2",
    "2BACLET": "AR 7 5 3, FR 4 4 3, EN 7 5 3, EI 2 2 2, HG 3 3 3, PHI 3 4 3, MATH 1 2 3, TRA 2 2 2, EPS 4 2 2",
}
_DEFAULT_WEIGHT = Decimal("0.75")
_MATHS_WEIGHT = Decimal("1.00")
_SECONDARY_WEIGHTS = {"MATH": _MATHS_WEIGHT, "FR": Decimal("0.80"), "EN": Decimal("0.60")}
_PRIMARY_WEIGHTS = {"MATH": _MATHS_WEIGHT}


def _programme(level: Level) -> str:
    if level.cycle is Cycle.PRIMAIRE:
        return _LOWER_PRIMARY if level.rank <= 3 else _UPPER_PRIMARY
    if level.cycle is Cycle.COLLEGIAL:
        return _COLLEGE
    return _TRACKS["TCS" if level.code in {"TCSF", "TCSA"} else level.code]


def _taught(level: Level) -> tuple[Taught, ...]:
    weights = _PRIMARY_WEIGHTS if level.cycle is Cycle.PRIMAIRE else _SECONDARY_WEIGHTS
    entries = (entry.split() for entry in _programme(level).split(","))
    return tuple(
        Taught(
            subject=SUBJECTS[code],
            coefficient=int(coefficient),
            hours=int(hours),
            controls=int(controls),
            control_weight=weights.get(code, _DEFAULT_WEIGHT),
        )
        for code, coefficient, hours, controls in entries
    )


CURRICULUM: dict[str, tuple[Taught, ...]] = {code: _taught(level) for code, level in LEVELS.items()}
