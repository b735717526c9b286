"""Names of people and schools in both scripts, drawn from lists of common ones.

Invariant: a person is a given and a family name drawn apart; that some living person bears the same two is chance.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from random import Random

import msgspec


class Spelling(msgspec.Struct, frozen=True):
    """One name in both scripts; `login` is its French form in plain lower-case letters."""

    ar: str
    fr: str
    login: str


class FullName(msgspec.Struct, frozen=True):
    """A person's display names and the plain `given.family` of a login."""

    ar: str
    fr: str
    login: str


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in decomposed if letter.isascii() and letter.isalnum())


def _spellings(table: str) -> tuple[Spelling, ...]:
    pairs = (line.partition("|") for line in table.split(",") if line.strip())
    return tuple(Spelling(ar=ar.strip(), fr=fr.strip(), login=_plain(fr)) for fr, _, ar in pairs)


BOYS = _spellings("""
    Adam|آدم, Adil|عادل, Ahmed|أحمد, Amine|أمين, Anas|أنس, Anouar|أنوار, Ayman|أيمن, Ayoub|أيوب, Badr|بدر,
    Bilal|بلال, Brahim|إبراهيم, Driss|إدريس, Fahd|فهد, Fouad|فؤاد, Ghali|غالي, Haitam|هيثم, Hamza|حمزة,
    Hatim|حاتم, Ilyas|إلياس, Imad|عماد, Ismail|إسماعيل, Issam|عصام, Jad|جاد, Jawad|جواد, Karim|كريم,
    Khalil|خليل, Mehdi|المهدي, Mohamed|محمد, Mouad|معاذ, Mourad|مراد, Moussa|موسى, Nabil|نبيل, Nassim|نسيم,
    Nizar|نزار, Omar|عمر, Othmane|عثمان, Oussama|أسامة, Rachid|رشيد, Rayan|ريان, Reda|رضا, Saad|سعد,
    Said|سعيد, Salah|صلاح, Salim|سليم, Samir|سمير, Soufiane|سفيان, Taha|طه, Tarik|طارق, Walid|وليد,
    Wassim|وسيم, Yahya|يحيى, Yassine|ياسين, Youness|يونس, Youssef|يوسف, Zakaria|زكرياء, Ziad|زياد
""")
GIRLS = _spellings("""
    Aicha|عائشة, Alae|آلاء, Amal|أمل, Amina|أمينة, Asmae|أسماء, Aya|آية, Basma|بسمة, Chaimae|شيماء, Dina|دينا,
    Doha|ضحى, Douae|دعاء, Farah|فرح, Fatima|فاطمة, Fatima Zahra|فاطمة الزهراء, Ghita|غيثة, Hafsa|حفصة,
    Hajar|هاجر, Hanane|حنان, Hasnae|حسناء, Hiba|هبة, Houda|هدى, Ibtissam|ابتسام, Ikram|إكرام, Imane|إيمان,
    Ines|إيناس, Jihane|جيهان, Karima|كريمة, Kawtar|كوثر, Khadija|خديجة, Khaoula|خولة, Laila|ليلى, Lamiae|لمياء,
    Lina|لينة, Loubna|لبنى, Malak|ملاك, Manal|منال, Mariam|مريم, Maroua|مروة, Meryem|مريم, Najat|نجاة,
    Nada|ندى, Nisrine|نسرين, Nora|نورة, Nouhaila|نهيلة, Oumaima|أميمة, Rabia|ربيعة, Rania|رانيا, Rim|ريم,
    Rita|ريتا, Romaissae|رميساء, Safae|صفاء, Salma|سلمى, Sana|سناء, Sara|سارة, Siham|سهام, Soukaina|سكينة,
    Wiam|وئام, Yasmine|ياسمين, Yousra|يسرى, Zineb|زينب
""")
FATHERS = _spellings("""
    Abdelaziz|عبد العزيز, Abdelhak|عبد الحق, Abdelilah|عبد الإله, Abdelkader|عبد القادر, Abdellah|عبد الله,
    Abdellatif|عبد اللطيف, Abderrahim|عبد الرحيم, Abderrahmane|عبد الرحمان, Ahmed|أحمد, Aziz|عزيز,
    Bouchaib|بوشعيب, Brahim|إبراهيم, Driss|إدريس, El Houssaine|الحسين, Hamid|حميد, Hassan|حسن,
    Jamal|جمال, Jilali|الجيلالي, Kamal|كمال, Khalid|خالد, Lahcen|لحسن, Larbi|العربي, Miloud|ميلود,
    Mohamed|محمد, Mohammed|محمد, Mustapha|مصطفى, Nourddine|نور الدين, Omar|عمر, Rachid|رشيد, Redouane|رضوان,
    Said|سعيد, Salah|صلاح, Tarik|طارق, Youssef|يوسف
""")
MOTHERS = _spellings("""
    Aicha|عائشة, Amina|أمينة, Asmaa|أسماء, Aziza|عزيزة, Bouchra|بشرى, Fadma|فاضمة, Fatiha|فتيحة, Fatima|فاطمة,
    Fatna|فاطنة, Fouzia|فوزية, Habiba|حبيبة, Hanane|حنان, Hayat|حياة, Jamila|جميلة, Karima|كريمة,
    Khadija|خديجة, Laila|ليلى, Latifa|لطيفة, Malika|مليكة, Mina|مينة, Naima|نعيمة, Najat|نجاة, Nadia|نادية,
    Rachida|رشيدة, Rkia|رقية, Saadia|السعدية, Saida|سعيدة, Samira|سميرة, Siham|سهام, Souad|سعاد,
    Touria|ثورية, Zahra|الزهرة, Zineb|زينب, Zoubida|زبيدة
""")
FAMILIES = _spellings("""
    Abbadi|عبادي, Achour|عاشور, Ait Bella|آيت بلا, Ait Hammou|آيت حمو, Ait Lahcen|آيت لحسن, Ait Ouali|آيت والي,
    Alaoui|علوي, Amrani|عمراني, Aouad|عواد, Arroub|عروب, Asri|عسري, Azzouzi|عزوزي, Bahri|بحري, Bakkali|البقالي,
    Belhaj|بلحاج, Belkacem|بلقاسم, Belmekki|بلمكي, Benali|بنعلي, Benchekroun|بنشقرون, Benhaddou|بنحدو,
    Benjelloun|بنجلون, Benkirane|بنكيران, Bennani|بناني, Bennis|بنيس, Bensaid|بنسعيد, Bensouda|بنسودة,
    Benyahya|بنيحيى, Berrada|برادة, Bouazza|بوعزة, Boukhris|بوخريص, Boulahya|بولحية, Boumediane|بومدين,
    Bourkadi|البوركادي, Bouzidi|بوزيدي, Chafik|شفيق, Chakir|شاكر, Chami|الشامي, Charkaoui|الشرقاوي,
    Cherkani|شرقاني, Chraibi|الشرايبي, Daoudi|الداودي, Dahbi|الذهبي, Douiri|الدويري, El Abbassi|العباسي,
    El Aissaoui|العيساوي, El Allali|العلالي, El Amri|العمري, El Asri|العسري, El Bahi|الباهي, El Bakkouri|البكوري,
    El Fassi|الفاسي, El Filali|الفيلالي, El Ghali|الغالي, El Gharbi|الغربي, El Guerraoui|الكراوي,
    El Haddad|الحداد, El Hajjami|الحجامي, El Hamdaoui|الحمداوي, El Harti|الحارثي, El Idrissi|الإدريسي,
    El Jabri|الجابري, El Jazouli|الجزولي, El Kabbaj|القباج, El Kadiri|القادري, El Khatib|الخطيب,
    El Mansouri|المنصوري, El Marrakchi|المراكشي, El Moutaouakil|المتوكل, El Ouafi|الوافي, El Ouardi|الوردي,
    El Ouazzani|الوزاني, El Yaakoubi|اليعقوبي, El Yousfi|اليوسفي, Errachidi|الراشدي, Essaidi|السعيدي,
    Essalhi|الصالحي, Ettahiri|الطاهري, Ezzahi|الزاهي, Fahmi|فهمي, Faraji|فرجي, Farissi|الفارسي, Fathi|فتحي,
    Ghazali|الغزالي, Guessous|كسوس, Habibi|حبيبي, Hachimi|الهاشمي, Haddadi|حدادي, Hajji|حجي, Hakim|حكيم,
    Hamdi|حمدي, Harrak|الحراق, Hassani|الحسني, Hilali|الهلالي, Ibrahimi|إبراهيمي,
    Jabrane|جبران, Jaouhari|الجوهري, Jebbour|جبور, Kabbouri|الكبوري, Kadmiri|القدميري, Kaddouri|القدوري,
    Kettani|الكتاني, Khaldi|خالدي, Lahlou|لحلو, Lamrini|المريني, Lazrak|لزرق, Maaroufi|معروفي, Mahfoudi|محفوظي,
    Mansour|منصور, Mekouar|مكوار, Mernissi|مرنيسي, Mesbahi|المصباحي, Moujahid|مجاهد, Naciri|الناصري,
    Nejjar|النجار, Ouahbi|وهبي, Oubella|أوبلا, Oulhaj|أولحاج, Ouali|والي, Rachidi|رشيدي, Rahmani|رحماني,
    Raji|راجي, Regragui|الركراكي, Rifi|الريفي, Saadi|سعدي, Sabri|صبري, Sadiki|الصديقي, Sahli|سهلي, Sebti|السبتي,
    Sefrioui|الصفريوي, Semlali|السملالي, Senhaji|الصنهاجي, Slaoui|السلاوي, Soussi|السوسي, Squalli|الصقلي,
    Tahiri|طاهري, Talbi|طالبي, Tazi|التازي, Touimi|التويمي, Touzani|التوزاني, Wahidi|الوحيدي, Yakoubi|يعقوبي,
    Zaari|الزعري, Zahidi|زاهدي, Zaidi|زيدي, Zerouali|الزروالي, Ziani|زياني, Zouhair|زهير, Zniber|زنيبر
""")
SCHOOLS = _spellings("""
    Al Andalous|الأندلس, Al Atlas|الأطلس, Al Fath|الفتح, Al Farabi|الفارابي, Al Idrissi|الإدريسي,
    Al Khawarizmi|الخوارزمي, Al Kindi|الكندي, Al Majd|المجد, Al Massira|المسيرة, Al Mostaqbal|المستقبل,
    Al Qods|القدس, Al Wahda|الوحدة, Allal Ben Abdellah|علال بن عبد الله, Annahda|النهضة, Annajah|النجاح,
    Arrazi|الرازي, Azzaitoun|الزيتون, Fatima Al Fihria|فاطمة الفهرية, Ibn Al Haytham|ابن الهيثم,
    Ibn Batouta|ابن بطوطة, Ibn Khaldoun|ابن خلدون, Ibn Rochd|ابن رشد, Ibn Sina|ابن سينا, Ibn Toufail|ابن طفيل,
    Ibn Tachfine|ابن تاشفين, Imam Malik|الإمام مالك, Moulay Idriss|مولاي إدريس, Omar Ibn Al Khattab|عمر بن الخطاب,
    Oued Eddahab|وادي الذهب, Tarik Ibn Ziad|طارق بن زياد, Yacoub Al Mansour|يعقوب المنصور,
    Youssef Ben Tachfine|يوسف بن تاشفين
""")


def pick(rng: Random, names: Sequence[Spelling]) -> Spelling:
    """One of `names`, each as likely."""
    return names[int(rng.random() * len(names))]


def full_name(given: Spelling, family: Spelling) -> FullName:
    """The given name before the family name, in both scripts."""
    return FullName(
        ar=f"{given.ar} {family.ar}", fr=f"{given.fr} {family.fr}", login=f"{given.login}.{family.login}"
    )
