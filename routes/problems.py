"""The one table from slug to status, title and advice, and the RFC 9457 bytes made from it.

Invariant: what a caller reads comes from this table alone; no upstream text, claim or exception message
ever reaches an answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cache.http.fields import weighted

LANGUAGES = ("fr", "ar", "en")
DEFAULT_LANGUAGE = "fr"
LANGUAGE_MEMO_MAX = 512
ACCEPT_LANGUAGE_BYTES_MAX = 256
PROBLEM_JSON = "application/problem+json"

_encode = msgspec.json.Encoder().encode

ADVICE: dict[str, dict[str, str]] = {
    "mend": {
        "fr": "Corrigez la requête avant de la répéter.",
        "ar": "صحّح الطلب قبل إعادته.",
        "en": "Mend the request before repeating it.",
    },
    "sign-in": {
        "fr": "Connectez-vous de nouveau.",
        "ar": "سجّل الدخول من جديد.",
        "en": "Sign in again.",
    },
    "refresh": {
        "fr": "Renouvelez le jeton d'accès, puis répétez la requête.",
        "ar": "جدّد رمز الدخول ثم أعد الطلب.",
        "en": "Refresh the access token, then repeat the request.",
    },
    "later": {
        "fr": "Répétez la requête après le délai indiqué.",
        "ar": "أعد الطلب بعد المهلة المحددة.",
        "en": "Repeat the request after the stated wait.",
    },
    "same-key": {
        "fr": "Répétez la requête avec la même clé Idempotency-Key.",
        "ar": "أعد الطلب بالمفتاح Idempotency-Key نفسه.",
        "en": "Repeat the request with the same Idempotency-Key.",
    },
    "ask": {
        "fr": "Demandez à l'utilisateur avant d'écrire de nouveau.",
        "ar": "اسأل المستعمل قبل الكتابة من جديد.",
        "en": "Ask the user before writing again.",
    },
    "reload": {
        "fr": "Relisez la ressource, puis corrigez cette ligne.",
        "ar": "أعد قراءة المورد ثم صحّح هذا السطر.",
        "en": "Read the resource again, then mend this row.",
    },
    "none": {
        "fr": "Rien à répéter : cela n'existe pas, ou pas pour vous.",
        "ar": "لا فائدة من الإعادة: هذا غير موجود، أو ليس لك.",
        "en": "Nothing to repeat: there is no such thing, or not for you.",
    },
    "app": {
        "fr": "Cette application ne donne pas accès à cette fonction.",
        "ar": "هذا التطبيق لا يتيح هذه الوظيفة.",
        "en": "This app gives no access to this function.",
    },
    "report": {
        "fr": "Signalez l'identifiant de la requête à l'exploitant.",
        "ar": "بلّغ المشرف بمعرّف الطلب.",
        "en": "Report the request's id to the operator.",
    },
}


class Problem(msgspec.Struct, frozen=True):
    """One kind of problem: its HTTP status, its constant title per language, what the app should do."""

    status: int
    fr: str
    ar: str
    en: str
    advice: str

    def title(self, language: str) -> str:
        """The constant title in `language` (one of LANGUAGES)."""
        return {"fr": self.fr, "ar": self.ar, "en": self.en}[language]

    def detail(self, language: str) -> str:
        """What the caller should do, in `language`."""
        return ADVICE[self.advice][language]


PROBLEMS: dict[str, Problem] = {
    "bad-request": Problem(400, "Requête mal formée", "طلب غير سليم", "Malformed request", "mend"),
    "unsupported-grant": Problem(
        400, "Mode de connexion non pris en charge", "طريقة دخول غير مدعومة", "Unsupported grant", "mend"
    ),
    "idempotency-key-required": Problem(
        400,
        "En-tête Idempotency-Key manquant",
        "ترويسة Idempotency-Key ناقصة",
        "Idempotency-Key header missing",
        "mend",
    ),
    "token-missing": Problem(
        401, "Jeton d'accès manquant", "رمز الدخول غائب", "Access token missing", "sign-in"
    ),
    "token-invalid": Problem(
        401, "Jeton d'accès invalide", "رمز الدخول غير صالح", "Access token invalid", "sign-in"
    ),
    "token-expired": Problem(
        401, "Jeton d'accès expiré", "انتهت صلاحية رمز الدخول", "Access token expired", "refresh"
    ),
    "session-ended": Problem(401, "Session terminée", "انتهت الجلسة", "Session ended", "sign-in"),
    "credentials-invalid": Problem(
        401,
        "Identifiant ou mot de passe incorrect",
        "المعرّف أو كلمة المرور غير صحيحة",
        "Login or password incorrect",
        "mend",
    ),
    "refresh-invalid": Problem(
        401, "Jeton de renouvellement invalide", "رمز التجديد غير صالح", "Refresh token invalid", "sign-in"
    ),
    "refresh-reused": Problem(
        401,
        "Jeton de renouvellement déjà utilisé",
        "رمز التجديد مستعمل من قبل",
        "Refresh token reused",
        "sign-in",
    ),
    "role-not-allowed": Problem(
        403, "Fonction non ouverte à ce rôle", "وظيفة غير متاحة لهذا الدور", "Not open to this role", "app"
    ),
    "not-found": Problem(404, "Introuvable", "غير موجود", "Not found", "none"),
    "method-not-allowed": Problem(
        405, "Méthode non permise", "طريقة غير مسموحة", "Method not allowed", "mend"
    ),
    "request-timeout": Problem(408, "Requête trop lente", "الطلب بطيء جدا", "Request too slow", "later"),
    "gradebook-locked": Problem(
        409, "Saisie des notes verrouillée", "مسك النقط مقفل", "Gradebook locked", "ask"
    ),
    "idempotency-key-in-progress": Problem(
        409,
        "Une requête avec cette clé est en cours",
        "طلب بالمفتاح نفسه قيد التنفيذ",
        "A request with this key is in progress",
        "later",
    ),
    "idempotency-key-expired": Problem(
        409, "Clé Idempotency-Key expirée", "انتهت صلاحية المفتاح", "Idempotency-Key expired", "ask"
    ),
    "body-too-large": Problem(413, "Corps trop volumineux", "حجم الطلب كبير جدا", "Body too large", "mend"),
    "uri-too-long": Problem(414, "Adresse trop longue", "العنوان طويل جدا", "URI too long", "mend"),
    "unsupported-media-type": Problem(
        415, "Type de contenu non pris en charge", "نوع المحتوى غير مدعوم", "Unsupported media type", "mend"
    ),
    "idempotency-key-reused": Problem(
        422,
        "Clé déjà utilisée pour une autre requête",
        "المفتاح مستعمل لطلب آخر",
        "Key already used for another request",
        "mend",
    ),
    "rate-limited": Problem(429, "Trop de requêtes", "طلبات كثيرة جدا", "Too many requests", "later"),
    "too-many-attempts": Problem(
        429, "Trop de tentatives de connexion", "محاولات دخول كثيرة جدا", "Too many sign-in attempts", "later"
    ),
    "headers-too-large": Problem(
        431, "En-têtes trop volumineux", "الترويسات كبيرة جدا", "Headers too large", "mend"
    ),
    "internal": Problem(500, "Erreur interne", "خطأ داخلي", "Internal error", "report"),
    "overloaded": Problem(503, "Service momentanément saturé", "الخدمة مشغولة مؤقتا", "Overloaded", "later"),
    "read-only": Problem(
        503, "Lecture seule pour le moment", "القراءة فقط في الوقت الحالي", "Read-only for now", "same-key"
    ),
    "switching": Problem(
        503,
        "Changement de centre de données en cours",
        "يجري تغيير مركز البيانات",
        "Switching datacenter",
        "same-key",
    ),
    "school-site-unavailable": Problem(
        502,
        "Site de l'établissement injoignable",
        "تعذر الوصول إلى موقع المؤسسة",
        "School site unreachable",
        "later",
    ),
    "datacenters-unavailable": Problem(
        503,
        "Centres de données injoignables",
        "تعذر الوصول إلى مراكز البيانات",
        "Datacenters unreachable",
        "later",
    ),
    "position-not-reached": Problem(
        503,
        "Votre écriture n'est pas encore visible",
        "لم تظهر كتابتكم بعد",
        "Your write does not show yet",
        "later",
    ),
    "relations-unavailable": Problem(
        503,
        "Droits d'accès momentanément invérifiables",
        "تعذر التحقق من الصلاحيات مؤقتا",
        "Relations cannot be verified now",
        "later",
    ),
    "denials-unavailable": Problem(
        503,
        "Déconnexions momentanément invérifiables",
        "تعذر التحقق من الجلسات المنتهية مؤقتا",
        "Sign-outs cannot be verified now",
        "later",
    ),
    "outcome-unknown": Problem(
        504,
        "Résultat de l'écriture inconnu",
        "نتيجة الكتابة غير معروفة",
        "Outcome of the write unknown",
        "same-key",
    ),
    # Verdicts on one row of a batch; their status is what the row alone would have got.
    "version-conflict": Problem(409, "Version dépassée", "الإصدار متجاوز", "Version out of date", "reload"),
    "observation-superseded": Problem(
        409, "Une observation plus récente existe", "توجد ملاحظة أحدث", "A newer observation stands", "reload"
    ),
    "observation-invalid": Problem(
        422, "Heure d'observation invalide", "وقت الملاحظة غير صالح", "Invalid time of observation", "mend"
    ),
    "mark-invalid": Problem(422, "Note invalide", "نقطة غير صالحة", "Invalid mark", "mend"),
    "pupil-not-in-class": Problem(
        422, "Élève absent de cette classe", "التلميذ ليس في هذا القسم", "Pupil not in this class", "reload"
    ),
    "control-unknown": Problem(422, "Contrôle inconnu", "فرض غير معروف", "Unknown contrôle", "reload"),
    "pupil-dispensed": Problem(422, "Élève dispensé", "التلميذ معفى", "Pupil dispensed", "reload"),
}


class RowProblem(msgspec.Struct, frozen=True):
    """The problem of one row in a batch: no `instance`, so that a replayed answer is the same bytes."""

    type: str
    title: str
    status: int
    detail: str
    slug: str


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details with the stable `slug`; `pointer` names the part at fault (RFC 6901)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    slug: str
    pointer: str | None = None


def row_problem(slug: str, *, language: str, base_url: str) -> RowProblem:
    """The problem of one row, in `language`; a slug that is not in the table becomes `internal`."""
    slug = slug if slug in PROBLEMS else "internal"
    kind = PROBLEMS[slug]
    return RowProblem(
        type=base_url + slug,
        title=kind.title(language),
        status=kind.status,
        detail=kind.detail(language),
        slug=slug,
    )


def problem_details(
    slug: str, *, language: str, base_url: str, request_id: str, pointer: str | None = None
) -> ProblemDetails:
    """The problem as a Struct; a slug that is not in the table becomes `internal`."""
    row = row_problem(slug, language=language, base_url=base_url)
    return ProblemDetails(
        type=row.type,
        title=row.title,
        status=row.status,
        detail=row.detail,
        instance="urn:request:" + request_id,
        slug=row.slug,
        pointer=pointer,
    )


def render(
    slug: str,
    *,
    language: str,
    base_url: str,
    request_id: str,
    pointer: str | None = None,
    retry_after_s: float | None = None,
    allow: str | None = None,
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, ASGI header pairs and body bytes of one problem.

    Source: RFC 9457; RFC 6750 §3 for `WWW-Authenticate`; RFC 9110 §10.2.3 for `Retry-After`.
    """
    details = problem_details(
        slug, language=language, base_url=base_url, request_id=request_id, pointer=pointer
    )
    body = _encode(details)
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"content-language", language.encode()),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept-Language"),
    ]
    if details.status == 401:
        headers.append((b"www-authenticate", _challenge(details.slug)))
    if retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(retry_after_s))).encode()))
    if allow is not None:
        headers.append((b"allow", allow.encode()))
    return details.status, headers, body


def _challenge(slug: str) -> bytes:
    if slug in {"token-invalid", "token-expired", "session-ended"}:
        return b'Bearer realm="massar", error="invalid_token"'
    return b'Bearer realm="massar"'


_languages: dict[bytes, str] = {}


def language_of(accept_language: bytes | None) -> str:
    """The best of ar, fr, en for an `Accept-Language` value; French when nothing fits.

    Source: RFC 9110 §12.5.4, with q-values; `q=0` excludes.
    """
    if not accept_language or len(accept_language) > ACCEPT_LANGUAGE_BYTES_MAX:
        return DEFAULT_LANGUAGE
    known = _languages.get(accept_language)
    if known is None:
        if len(_languages) >= LANGUAGE_MEMO_MAX:
            _languages.clear()
        known = _languages[accept_language] = _negotiate(accept_language.decode("latin-1"))
    return known


def _negotiate(header: str) -> str:
    wanted: dict[str, float] = {}
    for weight, tag in weighted(header):
        primary = tag.split("-")[0]
        wanted[primary] = max(wanted.get(primary, 0.0), weight)
    anything = wanted.get("*", 0.0)
    best = max(LANGUAGES, key=lambda language: wanted.get(language, anything))
    return best if wanted.get(best, anything) > 0 else DEFAULT_LANGUAGE


def slug_of(error: BaseException) -> str:
    """The slug an exception carries, or `internal`."""
    slug: Any = getattr(error, "slug", None)
    return slug if isinstance(slug, str) and slug in PROBLEMS else "internal"
