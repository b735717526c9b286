"""The territory: the 12 regional academies (AREF) and their 82 provincial directorates, so that scopes are the real ones.

Invariant: names are public geographic names and the only real thing in the synthetic country;
codes are the sandbox's own (`RR` for a region, `RRPP` for a province of it).
Source: decree 2.15.40 (the 12 regions and their prefectures and provinces).
"""

from __future__ import annotations

import msgspec


class Region(msgspec.Struct, frozen=True):
    """A region and the academy (AREF) of the same name; `letter` opens the Massar codes given out there."""

    code: str
    name_ar: str
    name_fr: str
    letter: str


class Province(msgspec.Struct, frozen=True):
    """A provincial directorate; `number` (1 to 82) opens the GRESA codes of its schools."""

    code: str
    number: int
    region: Region
    name_ar: str
    name_fr: str


# French and Arabic name of the region, letter, then its provinces, `French|Arabic`.
_TERRITORY: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "Tanger-Tétouan-Al Hoceïma",
        "طنجة - تطوان - الحسيمة",
        "L",
        (
            "Tanger-Assilah|طنجة - أصيلة",
            "M'diq-Fnideq|المضيق - الفنيدق",
            "Tétouan|تطوان",
            "Fahs-Anjra|الفحص - أنجرة",
            "Larache|العرائش",
            "Al Hoceïma|الحسيمة",
            "Chefchaouen|شفشاون",
            "Ouezzane|وزان",
        ),
    ),
    (
        "L'Oriental",
        "الشرق",
        "H",
        (
            "Oujda-Angad|وجدة - أنجاد",
            "Nador|الناظور",
            "Driouch|الدريوش",
            "Jerada|جرادة",
            "Berkane|بركان",
            "Taourirt|تاوريرت",
            "Guercif|جرسيف",
            "Figuig|فجيج",
        ),
    ),
    (
        "Fès-Meknès",
        "فاس - مكناس",
        "N",
        (
            "Fès|فاس",
            "Meknès|مكناس",
            "El Hajeb|الحاجب",
            "Ifrane|إفران",
            "Moulay Yacoub|مولاي يعقوب",
            "Séfrou|صفرو",
            "Boulemane|بولمان",
            "Taounate|تاونات",
            "Taza|تازة",
        ),
    ),
    (
        "Rabat-Salé-Kénitra",
        "الرباط - سلا - القنيطرة",
        "R",
        (
            "Rabat|الرباط",
            "Salé|سلا",
            "Skhirate-Témara|الصخيرات - تمارة",
            "Kénitra|القنيطرة",
            "Khémisset|الخميسات",
            "Sidi Kacem|سيدي قاسم",
            "Sidi Slimane|سيدي سليمان",
        ),
    ),
    (
        "Béni Mellal-Khénifra",
        "بني ملال - خنيفرة",
        "D",
        (
            "Béni Mellal|بني ملال",
            "Azilal|أزيلال",
            "Fquih Ben Salah|الفقيه بن صالح",
            "Khénifra|خنيفرة",
            "Khouribga|خريبكة",
        ),
    ),
    (
        "Casablanca-Settat",
        "الدار البيضاء - سطات",
        "J",
        (
            "Casablanca-Anfa|الدار البيضاء - أنفا",
            "Al Fida-Mers Sultan|الفداء - مرس السلطان",
            "Aïn Sebaâ-Hay Mohammadi|عين السبع - الحي المحمدي",
            "Hay Hassani|الحي الحسني",
            "Aïn Chock|عين الشق",
            "Sidi Bernoussi|سيدي البرنوصي",
            "Ben M'sick|ابن مسيك",
            "Moulay Rachid|مولاي رشيد",
            "Mohammedia|المحمدية",
            "El Jadida|الجديدة",
            "Nouaceur|النواصر",
            "Médiouna|مديونة",
            "Benslimane|بنسليمان",
            "Berrechid|برشيد",
            "Settat|سطات",
            "Sidi Bennour|سيدي بنور",
        ),
    ),
    (
        "Marrakech-Safi",
        "مراكش - آسفي",
        "E",
        (
            "Marrakech|مراكش",
            "Chichaoua|شيشاوة",
            "Al Haouz|الحوز",
            "El Kelâa des Sraghna|قلعة السراغنة",
            "Essaouira|الصويرة",
            "Rehamna|الرحامنة",
            "Safi|آسفي",
            "Youssoufia|اليوسفية",
        ),
    ),
    (
        "Drâa-Tafilalet",
        "درعة - تافيلالت",
        "T",
        (
            "Errachidia|الرشيدية",
            "Ouarzazate|ورزازات",
            "Midelt|ميدلت",
            "Tinghir|تنغير",
            "Zagora|زاكورة",
        ),
    ),
    (
        "Souss-Massa",
        "سوس - ماسة",
        "S",
        (
            "Agadir-Ida-Ou-Tanane|أكادير - إداوتنان",
            "Inezgane-Aït Melloul|إنزكان - آيت ملول",
            "Chtouka-Aït Baha|اشتوكة - آيت باها",
            "Taroudannt|تارودانت",
            "Tiznit|تيزنيت",
            "Tata|طاطا",
        ),
    ),
    (
        "Guelmim-Oued Noun",
        "كلميم - واد نون",
        "G",
        ("Guelmim|كلميم", "Assa-Zag|آسا - الزاك", "Tan-Tan|طانطان", "Sidi Ifni|سيدي إفني"),
    ),
    (
        "Laâyoune-Sakia El Hamra",
        "العيون - الساقية الحمراء",
        "Y",
        ("Laâyoune|العيون", "Boujdour|بوجدور", "Tarfaya|طرفاية", "Es-Semara|السمارة"),
    ),
    (
        "Dakhla-Oued Ed-Dahab",
        "الداخلة - وادي الذهب",
        "B",
        ("Oued Ed-Dahab|وادي الذهب", "Aousserd|أوسرد"),
    ),
)


def _provinces() -> tuple[Province, ...]:
    provinces: list[Province] = []
    for region_number, (name_fr, name_ar, letter, names) in enumerate(_TERRITORY, start=1):
        region = Region(code=f"{region_number:02d}", name_ar=name_ar, name_fr=name_fr, letter=letter)
        for rank, pair in enumerate(names, start=1):
            fr, _, ar = pair.partition("|")
            provinces.append(
                Province(
                    code=f"{region.code}{rank:02d}",
                    number=len(provinces) + 1,
                    region=region,
                    name_ar=ar,
                    name_fr=fr,
                )
            )
    return tuple(provinces)


PROVINCES = _provinces()
REGIONS = tuple({province.region.code: province.region for province in PROVINCES}.values())
CAPITAL = next(province for province in PROVINCES if province.name_fr == "Rabat")
