"""Who the caller is: role, names, linked pupils or classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from auth.principal import App, Name, Role
from cache.policy import S
from routes.answers import CallerRequest, composed, encode, respond
from routes.endpoint import CachedRead, Endpoint, Reads, Source
from routes.wire import CLASS_ID_EXAMPLE, NAME_EXAMPLE, PUPIL_ID_EXAMPLE, Instant, Subject


class PrincipalCard(msgspec.Struct, frozen=True):
    """The caller as the apps show him."""

    id: str
    role: Role
    app: App
    name: Name


class LinkedPupil(msgspec.Struct, frozen=True):
    """The pupil himself, or a guardian's child."""

    id: str
    name: Name
    class_id: str
    class_name: str
    level: str
    school_gresa: str
    relation: Literal["self", "child"]


class TaughtClass(msgspec.Struct, frozen=True):
    """A class the teacher teaches, with his subjects there."""

    id: str
    name: str
    level: str
    school_gresa: str
    subjects: list[Subject]


class Profile(msgspec.Struct, frozen=True):
    """The cached entry behind `GET /me`."""

    name: Name
    pupils: list[LinkedPupil]
    classes: list[TaughtClass]
    as_of: Instant


class Me(msgspec.Struct, frozen=True):
    """The caller, his pupils or his classes."""

    principal: PrincipalCard
    pupils: list[LinkedPupil]
    classes: list[TaughtClass]
    features: list[str]


def profile_source(params: Mapping[str, str]) -> Source:
    """One entry per person."""
    subject = params["subject_id"]
    return Source(
        f"people/{subject}/profile",
        "self",
        f"/v1/people/{subject}/profile?view=self",
        (f"profile:{subject}", f"relations:{subject}"),
    )


PROFILE = CachedRead(freshness=S, source=profile_source, answer=Profile, part=True)
FEATURES = ["attendance", "homework"]

ME = Endpoint(
    method="GET",
    path="/v1/me",
    rule=Rule.ANY_PRINCIPAL,
    summary="Who the caller is",
    tag="account",
    answer=Me,
    conditional=True,
    example={
        "principal": {"id": PUPIL_ID_EXAMPLE, "role": "student", "app": "moutamadris", "name": NAME_EXAMPLE},
        "pupils": [
            {
                "id": PUPIL_ID_EXAMPLE,
                "name": NAME_EXAMPLE,
                "class_id": CLASS_ID_EXAMPLE,
                "class_name": "2APIC-3",
                "level": "2APIC",
                "school_gresa": "01234A",
                "relation": "self",
            }
        ],
        "classes": [],
        "features": FEATURES,
    },
)

_profile = msgspec.json.Decoder(Profile)


@route("/v1/me", http_method=["GET", "HEAD"], opt={"endpoint": ME})
async def read_me(request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]) -> Response[bytes]:
    """Who the caller is."""
    principal = request.user.principal
    part = await reads.read(PROFILE, {"subject_id": principal.subject})
    profile = _profile.decode(part.body)
    card = PrincipalCard(id=principal.subject, role=principal.role, app=principal.app, name=profile.name)
    me = Me(principal=card, pupils=profile.pupils, classes=profile.classes, features=FEATURES)
    return respond(request, composed(encode(me), [part]))
