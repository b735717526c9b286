"""Signing in and out, on a real database: the same no for everybody, families that die of reuse, ends that hold."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.accounts import Status, open_engine
from auth.denials import DENIAL_MARGIN_S
from auth.opaque_id import new_id
from auth.passwords import Passwords
from auth.principal import APP_OF_ROLE, App, Name, Principal, Role
from auth.refusals import (
    AccountsUnavailable,
    CredentialsInvalid,
    NotFound,
    Overloaded,
    RefreshInvalid,
    RefreshReused,
    Refusal,
    TooManyAttempts,
    UnsupportedGrant,
)
from auth.rotation import REPEAT_WITHIN_S
from auth.sessions import SESSIONS_MAX
from auth.sign_in import SignIn, SignInRequest, TokenGrant
from auth.throttles import PER_ACCOUNT_MAX, PER_DEVICE_MAX, WINDOW_S, Throttles
from auth.tokens import ACCESS_TTL_S, REFRESH_TTL_S, Tokens
from sandbox.ports import free_ports
from tests.auth.people import CHEAP_HASH, PASSWORD, START, Clock, add_account, somebody_waits
from tests.waiting import eventually

LOGIN = "r130000001@taalim.ma"
PHONE = "phone-1"


class EtcdAway(Exception):
    """What the injected denial raises when it cannot be published."""


class CheapPasswords(Passwords):
    """The real thread pool; nobody's verification costs as little as somebody's in these tests. Counts them."""

    def __init__(self) -> None:
        super().__init__(concurrent_max=2, waiting_max=200)
        self.verified: list[str | None] = []
        self.full = False

    async def verify(self, stored: str | None, password: str) -> bool:
        """Verify, and note against what."""
        if self.full:
            raise Overloaded
        self.verified.append(stored)
        right = await super().verify(stored or CHEAP_HASH, password)
        return right and stored is not None


class World:
    """A SignIn with all that it stands on."""

    def __init__(self, engine: AsyncEngine, tokens: Tokens, clock: Clock) -> None:
        self.engine = engine
        self.tokens = tokens
        self.clock = clock
        self.passwords = CheapPasswords()
        self.denied: dict[str, float] = {}
        self.etcd_away = False
        self.door = SignIn(
            tokens=tokens, passwords=self.passwords, throttles=Throttles(), deny=self.deny, clock=clock
        )

    async def deny(self, engine: AsyncEngine, sid: str, until: float) -> None:
        """Note a denial, unless etcd is away."""
        assert engine is self.engine
        if self.etcd_away:
            raise EtcdAway
        self.denied[sid] = until

    async def sign_in(
        self,
        login: str = LOGIN,
        password: str = PASSWORD,
        *,
        app: App = App.MOUTAMADRIS,
        device: str = PHONE,
        grant: str = "password",
    ) -> TokenGrant:
        """Sign in as the app would."""
        request = SignInRequest(
            grant=grant, app=app, login=login, password=password, device_id=device, device_name="My phone"
        )
        return await self.door.sign_in(self.engine, request)

    async def refresh(self, token: str, device: str = PHONE) -> TokenGrant:
        """Exchange a refresh token."""
        return await self.door.refresh(self.engine, token, device)

    def sequence(self, grant: TokenGrant) -> int:
        """The number in a grant's refresh token."""
        return self.tokens.read_refresh(grant.refresh_token, self.clock()).sequence

    async def sids(self, principal: Principal) -> list[str]:
        """The live sessions as the caller sees them."""
        return [view.sid for view in await self.door.sessions(self.engine, principal)]


@pytest.fixture
async def world(engine: AsyncEngine, tokens: Tokens, clock: Clock) -> AsyncIterator[World]:
    """An empty accounts database and a door to it."""
    world = World(engine, tokens, clock)
    yield world
    world.passwords.close()


@pytest.fixture
async def subject(engine: AsyncEngine) -> str:
    """A student with an account."""
    return await add_account(engine)


async def test_the_right_password_opens_a_session(world: World, subject: str) -> None:
    grant = await world.sign_in()
    assert (grant.principal.subject, grant.principal.role, grant.principal.app) == (
        subject,
        Role.STUDENT,
        App.MOUTAMADRIS,
    )
    assert grant.name == Name(ar="سلمى", fr="Salma")
    assert (grant.expires_in, grant.refresh_expires_in) == (ACCESS_TTL_S, REFRESH_TTL_S)
    assert world.tokens.verify(grant.access_token, world.clock()) == grant.principal
    claims = world.tokens.read_refresh(grant.refresh_token, world.clock())
    assert (claims.family, claims.sequence) == (grant.principal.sid, 1)
    assert await world.sids(grant.principal) == [grant.principal.sid]


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_signs_in_to_its_own_app(world: World, role: Role) -> None:
    await add_account(world.engine, role=role)
    grant = await world.sign_in("  R130000001@TAALIM.ma ", app=APP_OF_ROLE[role])
    assert grant.principal.role is role


async def test_whatever_is_wrong_costs_one_verification_and_reads_the_same(
    world: World, subject: str
) -> None:
    await add_account(world.engine, "closed", status=Status.DISABLED)
    await add_account(world.engine, "mixed", role=Role.PARENT, app=App.MOUTAMADRIS)
    wrong: list[dict[str, Any]] = [
        {"login": "nobody"},
        {"password": "wrong"},
        {"login": "closed"},
        {"login": "mixed"},
        {"app": App.WALIYE},
        {"login": ""},
        {"login": "a\x00b"},
        {"login": "\ud800"},
        {"login": "l" * 5000},
        {"password": "p" * 5000},
        {"password": PASSWORD + "\x00"},
        {"password": "\ud800"},
        {"login": "nobody", "device": "\x00\ud800" * 500},
    ]
    refusals = []
    for number, changes in enumerate(wrong):
        world.passwords.verified.clear()
        with pytest.raises(CredentialsInvalid) as refused:
            await world.sign_in(**{"device": f"phone-{number}", **changes})
        assert len(world.passwords.verified) == 1
        refusals.append(refused.value)
    assert len({(type(refusal), refusal.args, refusal.retry_after_s) for refusal in refusals}) == 1


async def test_an_account_disabled_while_it_signs_in_stays_closed(world: World, subject: str) -> None:
    async with world.engine.connect() as meanwhile:
        await meanwhile.execute(text("UPDATE accounts SET status = 'disabled'"))
        signing_in = asyncio.ensure_future(world.sign_in())
        await eventually(lambda: somebody_waits(world.engine), within_s=20)
        await meanwhile.commit()
    with pytest.raises(CredentialsInvalid):
        await signing_in


@pytest.mark.parametrize("grant", ["one-time-code", "oidc", "Password", ""])
async def test_other_grants_are_not_offered_and_cost_nothing(world: World, subject: str, grant: str) -> None:
    with pytest.raises(UnsupportedGrant):
        await world.sign_in(grant=grant)
    assert world.passwords.verified == []


async def test_a_device_may_guess_ten_times_and_even_the_right_password_then_waits(
    world: World, subject: str
) -> None:
    for _ in range(PER_DEVICE_MAX):
        with pytest.raises(CredentialsInvalid):
            await world.sign_in(password="wrong")
    with pytest.raises(TooManyAttempts) as refused:
        await world.sign_in()
    assert refused.value.retry_after_s == WINDOW_S
    assert len(world.passwords.verified) == PER_DEVICE_MAX
    assert await world.sign_in(device="tablet")
    world.clock.advance(WINDOW_S)
    assert await world.sign_in()


async def test_an_account_may_be_guessed_fifty_times_in_all(world: World, subject: str) -> None:
    for number in range(PER_ACCOUNT_MAX):
        with pytest.raises(CredentialsInvalid):
            await world.sign_in(" R130000001@taalim.MA", password="wrong", device=f"phone-{number}")
    with pytest.raises(TooManyAttempts):
        await world.sign_in(device="fresh")


async def test_an_unknown_login_is_held_up_just_like_a_known_one(world: World) -> None:
    for _ in range(PER_DEVICE_MAX):
        with pytest.raises(CredentialsInvalid):
            await world.sign_in("nobody")
    with pytest.raises(TooManyAttempts):
        await world.sign_in("nobody")


async def test_signing_in_does_not_use_up_attempts(world: World, subject: str) -> None:
    for _ in range(PER_DEVICE_MAX + 5):
        await world.sign_in()


async def test_guesses_at_once_see_no_more_passwords_than_the_limit(world: World, subject: str) -> None:
    outcomes = await asyncio.gather(
        *(world.sign_in(password=f"guess {number}") for number in range(40)), return_exceptions=True
    )
    assert Counter(type(outcome) for outcome in outcomes) == {CredentialsInvalid: 10, TooManyAttempts: 30}
    assert len(world.passwords.verified) == PER_DEVICE_MAX


async def test_a_full_line_gives_the_attempt_back(world: World, subject: str) -> None:
    world.passwords.full = True
    for _ in range(PER_DEVICE_MAX + 1):
        with pytest.raises(Overloaded):
            await world.sign_in()
    world.passwords.full = False
    assert await world.sign_in()


async def test_an_account_has_a_bounded_number_of_sessions(world: World, subject: str) -> None:
    grants = []
    for _ in range(SESSIONS_MAX + 2):
        world.clock.advance(1)
        grants.append(await world.sign_in())
    kept = await world.sids(grants[-1].principal)
    assert kept == [grant.principal.sid for grant in reversed(grants[2:])]
    with pytest.raises(RefreshInvalid):
        await world.refresh(grants[0].refresh_token)
    assert sorted(world.denied) == sorted(grant.principal.sid for grant in grants[:2])
    with pytest.raises(NotFound):
        await world.door.end_session(world.engine, grants[-1].principal, grants[0].principal.sid)


async def test_a_session_that_made_room_is_denied_before_the_sign_in_is_answered(
    world: World, subject: str
) -> None:
    first = await world.sign_in(device="victim")
    for number in range(SESSIONS_MAX - 1):
        world.clock.advance(1)
        await world.sign_in(device=f"phone-{number}")
    assert world.denied == {}
    world.clock.advance(1)
    last = await world.sign_in(device="one more")
    assert world.denied == {first.principal.sid: world.clock() + ACCESS_TTL_S + DENIAL_MARGIN_S}
    world.denied.clear()  # as after the loss of what was published
    assert first.principal.sid in await world.door.end_all(world.engine, last.principal)
    assert first.principal.sid in world.denied


async def test_signing_out_everywhere_leaves_alone_what_no_token_of_can_run(
    world: World, subject: str
) -> None:
    here, there = await world.sign_in(), await world.sign_in(device="tablet")
    await world.door.end_session(world.engine, here.principal, there.principal.sid)
    world.clock.advance(ACCESS_TTL_S + DENIAL_MARGIN_S)
    assert await world.door.end_all(world.engine, here.principal) == [here.principal.sid]


async def test_a_denial_counts_from_after_the_verification(world: World, subject: str) -> None:
    first = await world.sign_in()
    for _ in range(SESSIONS_MAX - 1):
        world.clock.advance(1)
        await world.sign_in()
    verify = world.passwords.verify

    async def slow_verify(stored: str | None, password: str) -> bool:
        world.clock.advance(50)
        return await verify(stored, password)

    world.passwords.verify = slow_verify  # type: ignore[method-assign]  # the only wait there is
    await world.sign_in()
    assert world.denied == {first.principal.sid: world.clock() + ACCESS_TTL_S + DENIAL_MARGIN_S}


async def test_a_sign_in_that_cannot_deny_costs_one_session_however_often_it_is_tried(
    world: World, subject: str
) -> None:
    grants = []
    for _ in range(SESSIONS_MAX):
        world.clock.advance(1)
        grants.append(await world.sign_in())
    world.etcd_away = True
    for _ in range(3):
        world.clock.advance(1)
        with pytest.raises(EtcdAway):
            await world.sign_in()
    kept = [grant.principal.sid for grant in reversed(grants[1:])]
    assert await world.sids(grants[-1].principal) == kept
    world.etcd_away = False
    last = await world.sign_in()
    assert grants[0].principal.sid in world.denied
    assert await world.sids(last.principal) == [last.principal.sid, *kept]


async def test_sign_ins_at_once_do_not_exceed_the_number_of_sessions(world: World, subject: str) -> None:
    for _ in range(SESSIONS_MAX):
        await world.sign_in()
    grants = await asyncio.gather(*(world.sign_in() for _ in range(8)))
    live = await world.sids(grants[0].principal)
    assert len(live) == SESSIONS_MAX
    assert len(world.denied) == 8
    assert not world.denied.keys() & set(live)


async def test_what_a_device_calls_itself_cannot_break_anything(world: World, subject: str) -> None:
    device = "\x00\ud800" + "d" * 1000
    grant = await world.sign_in(device=device)
    (view,) = await world.door.sessions(world.engine, grant.principal)
    assert view.device_id == "��" + "d" * 126
    assert await world.refresh(grant.refresh_token, device)


# Exchanging refresh tokens


async def test_a_refresh_token_is_exchanged_for_the_next(world: World, subject: str) -> None:
    grant = await world.sign_in()
    for expected in (2, 3, 4):
        world.clock.advance(3600)
        grant = await world.refresh(grant.refresh_token)
        assert world.sequence(grant) == expected
        assert world.tokens.verify(grant.access_token, world.clock()).subject == subject
        assert grant.name == Name(ar="سلمى", fr="Salma")
    (view,) = await world.door.sessions(world.engine, grant.principal)
    assert view.last_used_at.timestamp() == world.clock()


async def test_reuse_kills_the_family_and_denies_it_before_the_answer(world: World, subject: str) -> None:
    stolen = await world.sign_in()
    sid = stolen.principal.sid
    current = await world.refresh(stolen.refresh_token)
    world.clock.advance(REPEAT_WITHIN_S + 1)
    with pytest.raises(RefreshReused):
        await world.refresh(stolen.refresh_token)
    assert world.denied == {sid: world.clock() + ACCESS_TTL_S + DENIAL_MARGIN_S}
    for token in (current.refresh_token, stolen.refresh_token):
        with pytest.raises(RefreshInvalid):
            await world.refresh(token)
    assert await world.sids(current.principal) == []


async def test_reuse_is_noticed_within_the_window_once_the_successor_was_used(
    world: World, subject: str
) -> None:
    first = await world.sign_in()
    second = await world.refresh(first.refresh_token)
    await world.refresh(second.refresh_token)
    with pytest.raises(RefreshReused):
        await world.refresh(first.refresh_token)


async def test_a_lost_answer_may_be_asked_for_again_by_the_same_device(world: World, subject: str) -> None:
    first = await world.sign_in()
    second = await world.refresh(first.refresh_token)
    world.clock.advance(REPEAT_WITHIN_S)
    again = await world.refresh(first.refresh_token)
    assert world.sequence(again) == world.sequence(second) == 2
    assert again.principal.sid == second.principal.sid
    third = await world.refresh(again.refresh_token)
    assert world.sequence(third) == 3
    assert world.denied == {}


async def test_a_repeat_from_another_device_is_reuse(world: World, subject: str) -> None:
    first = await world.sign_in()
    await world.refresh(first.refresh_token)
    with pytest.raises(RefreshReused):
        await world.refresh(first.refresh_token, "thief")
    assert first.principal.sid in world.denied


async def test_the_open_token_on_another_device_opens_and_kills_nothing(world: World, subject: str) -> None:
    grant = await world.sign_in()
    with pytest.raises(RefreshInvalid):
        await world.refresh(grant.refresh_token, "thief")
    assert world.denied == {}
    assert world.sequence(await world.refresh(grant.refresh_token)) == 2


@pytest.mark.parametrize("rounds", range(3))
async def test_exchanges_at_once_open_one_successor(world: World, subject: str, rounds: int) -> None:
    grant = await world.sign_in()
    for _ in range(rounds):
        grant = await world.refresh(grant.refresh_token)
    grants = await asyncio.gather(*(world.refresh(grant.refresh_token) for _ in range(8)))
    assert {world.sequence(each) for each in grants} == {rounds + 2}
    assert {each.principal.sid for each in grants} == {grant.principal.sid}
    assert world.sequence(await world.refresh(grants[0].refresh_token)) == rounds + 3


async def test_an_exchange_is_judged_by_what_another_one_just_wrote(world: World, subject: str) -> None:
    grant = await world.sign_in()
    async with world.engine.connect() as meanwhile:
        await meanwhile.execute(text("UPDATE sessions SET sequence = 3"))
        exchanging = asyncio.ensure_future(world.refresh(grant.refresh_token))
        await eventually(lambda: somebody_waits(world.engine), within_s=20)
        await meanwhile.commit()
    with pytest.raises(RefreshReused):
        await exchanging


async def test_an_exchange_does_not_outrun_a_sign_out(world: World, subject: str) -> None:
    grant = await world.sign_in()
    async with world.engine.connect() as meanwhile:
        await meanwhile.execute(text("UPDATE sessions SET ended_at = now()"))
        exchanging = asyncio.ensure_future(world.refresh(grant.refresh_token))
        await eventually(lambda: somebody_waits(world.engine), within_s=20)
        await meanwhile.commit()
    with pytest.raises(RefreshInvalid):
        await exchanging


async def test_the_phone_and_a_thief_at_once_do_not_both_get_on(world: World, subject: str) -> None:
    grant = await world.sign_in()
    current = await world.refresh(grant.refresh_token)
    world.clock.advance(REPEAT_WITHIN_S + 1)
    outcomes = await asyncio.gather(
        world.refresh(current.refresh_token), world.refresh(grant.refresh_token), return_exceptions=True
    )
    assert any(isinstance(outcome, RefreshReused) for outcome in outcomes)
    assert grant.principal.sid in world.denied
    assert await world.sids(grant.principal) == []


async def test_a_rotation_that_was_lost_with_a_site_is_made_up_for_once(world: World, subject: str) -> None:
    first = await world.sign_in()
    grant = first
    for _ in range(3):
        grant = await world.refresh(grant.refresh_token)
    async with world.engine.begin() as connection:  # the other site's copy is older
        await connection.execute(text("UPDATE sessions SET sequence = 2, exchanged_at = NULL"))
    after = await world.refresh(grant.refresh_token)
    assert world.sequence(after) == 5
    world.clock.advance(REPEAT_WITHIN_S + 1)
    with pytest.raises(RefreshReused):
        await world.refresh(grant.refresh_token)


async def test_a_refresh_token_alone_is_not_enough(world: World, subject: str, tokens: Tokens) -> None:
    grant = await world.sign_in()
    unknown, _ = tokens.issue_refresh(family=new_id(), sequence=1, device_id=PHONE, now=world.clock())
    for token in (unknown, grant.access_token, grant.refresh_token + "A", "", "\x00", "ا"):
        with pytest.raises(RefreshInvalid):
            await world.refresh(token)
    world.clock.advance(REFRESH_TTL_S)
    with pytest.raises(RefreshInvalid):
        await world.refresh(grant.refresh_token)


async def test_a_disabled_account_gets_no_more_tokens(world: World, subject: str) -> None:
    grant = await world.sign_in()
    async with world.engine.begin() as connection:
        await connection.execute(text("UPDATE accounts SET status = 'disabled'"))
    with pytest.raises(RefreshInvalid):
        await world.refresh(grant.refresh_token)


# Signing out


async def test_a_session_signed_out_is_denied_and_cannot_be_refreshed(world: World, subject: str) -> None:
    here, there = await world.sign_in(), await world.sign_in(device="tablet")
    sid = await world.door.end_session(world.engine, here.principal, there.principal.sid)
    assert sid == there.principal.sid
    assert world.denied == {sid: world.clock() + ACCESS_TTL_S + DENIAL_MARGIN_S}
    with pytest.raises(RefreshInvalid):
        await world.refresh(there.refresh_token, "tablet")
    assert await world.sids(here.principal) == [here.principal.sid]
    with pytest.raises(NotFound):
        await world.door.end_session(world.engine, here.principal, sid)
    assert await world.refresh(here.refresh_token)


async def test_somebody_elses_session_and_none_are_the_same_nothing(world: World, subject: str) -> None:
    await add_account(world.engine, "other")
    mine, theirs = await world.sign_in(), await world.sign_in("other")
    refusals = []
    for sid in (theirs.principal.sid, new_id(), "", "\x00", "x" * 500, "\ud800"):
        with pytest.raises(NotFound) as refused:
            await world.door.end_session(world.engine, mine.principal, sid)
        refusals.append(refused.value)
    assert len({(type(refusal), refusal.args, refusal.retry_after_s) for refusal in refusals}) == 1
    assert world.denied == {}
    assert await world.refresh(theirs.refresh_token)


async def test_signing_out_everywhere_ends_all_of_ones_own(world: World, subject: str) -> None:
    await add_account(world.engine, "other")
    grants = [await world.sign_in(device=f"phone-{number}") for number in range(3)]
    other = await world.sign_in("other")
    sids = await world.door.end_all(world.engine, grants[1].principal)
    assert sids == sorted(grant.principal.sid for grant in grants) == sorted(world.denied)
    for number, grant in enumerate(grants):
        with pytest.raises(RefreshInvalid):
            await world.refresh(grant.refresh_token, f"phone-{number}")
    assert await world.refresh(other.refresh_token)


async def test_the_session_that_asks_is_denied_even_when_its_row_was_lost(world: World, subject: str) -> None:
    grant = await world.sign_in()
    async with world.engine.begin() as connection:
        await connection.execute(text("DELETE FROM sessions"))
    assert await world.door.end_session(world.engine, grant.principal, grant.principal.sid)
    assert grant.principal.sid in world.denied
    world.denied.clear()
    assert await world.door.end_all(world.engine, grant.principal) == [grant.principal.sid]
    assert grant.principal.sid in world.denied


async def test_a_sign_out_whose_denial_failed_is_finished_by_the_next_try(world: World, subject: str) -> None:
    here, there = await world.sign_in(), await world.sign_in(device="tablet")
    world.etcd_away = True
    with pytest.raises(EtcdAway):
        await world.door.end_session(world.engine, here.principal, there.principal.sid)
    assert await world.sids(here.principal) == [here.principal.sid]
    with pytest.raises(EtcdAway):
        await world.refresh(there.refresh_token, "tablet")
    world.etcd_away = False
    await world.door.end_session(world.engine, here.principal, there.principal.sid)
    assert there.principal.sid in world.denied
    with pytest.raises(NotFound):
        await world.door.end_session(world.engine, here.principal, there.principal.sid)


async def test_a_family_whose_denial_failed_is_dead_and_denied_by_the_next_try(
    world: World, subject: str
) -> None:
    first = await world.sign_in()
    second = await world.refresh(first.refresh_token)
    world.clock.advance(REPEAT_WITHIN_S + 1)
    world.etcd_away = True
    with pytest.raises(EtcdAway):
        await world.refresh(first.refresh_token)
    world.etcd_away = False
    with pytest.raises(RefreshInvalid):
        await world.refresh(second.refresh_token)
    assert first.principal.sid in world.denied


async def test_a_caller_that_goes_away_does_not_stop_the_denial(world: World, subject: str) -> None:
    grant = await world.sign_in()
    reached, go_on = asyncio.Event(), asyncio.Event()
    publish = world.door._deny

    async def slow_deny(engine: AsyncEngine, sid: str, until: float) -> None:
        reached.set()
        await go_on.wait()
        await publish(engine, sid, until)

    world.door._deny = slow_deny
    ending = asyncio.ensure_future(world.door.end_all(world.engine, grant.principal))
    await asyncio.wait_for(reached.wait(), 5)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    go_on.set()
    await eventually(lambda: grant.principal.sid in world.denied, within_s=20)
    await eventually(lambda: not world.door._publishing, within_s=20)


async def test_without_a_database_everything_says_so(world: World, subject: str) -> None:
    grant = await world.sign_in()
    away = open_engine(f"postgresql://u:p@127.0.0.1:{free_ports(1)[0]}/accounts")
    request = SignInRequest(
        grant="password", app=App.WALIYE, login="l", password="p", device_id="d", device_name="n"
    )
    for attempt in (
        world.door.sign_in(away, request),
        world.door.refresh(away, grant.refresh_token, PHONE),
        world.door.sessions(away, grant.principal),
        world.door.end_session(away, grant.principal, grant.principal.sid),
        world.door.end_all(away, grant.principal),
    ):
        with pytest.raises(AccountsUnavailable):
            await attempt
    await away.dispose()


def test_what_is_secret_is_not_shown(tokens: Tokens) -> None:
    request = SignInRequest(
        grant="password", app=App.WALIYE, login="login", password="secret", device_id="dev", device_name="nam"
    )
    access, _ = tokens.issue_access(subject="s", role=Role.PARENT, sid="i", now=START)
    grant = TokenGrant(
        principal=Principal(subject="s", role=Role.PARENT, app=App.WALIYE, sid="i", expires_at=START),
        name=Name(ar="ar-name", fr="fr-name"),
        access_token=access,
        expires_in=1,
        refresh_token=access,
        refresh_expires_in=1,
    )
    for shown in (repr(request), repr(grant), str(request), str(grant)):
        assert not any(word in shown for word in ("login", "secret", "dev", "nam", access))
    assert msgspec.structs.asdict(request)["password"] == "secret"


any_text = st.text(max_size=20) | st.sampled_from([LOGIN, PASSWORD, "\x00", "\ud800", "%s'\"\\", "🙂" * 200])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(login=any_text, password=any_text, device=any_text, name=any_text, app=st.sampled_from(list(App)))
async def test_nothing_that_an_app_sends_is_more_than_a_refusal(
    world: World, login: str, password: str, device: str, name: str, app: App
) -> None:
    request = SignInRequest(
        grant="password", app=app, login=login, password=password, device_id=device, device_name=name
    )
    with pytest.raises(Refusal):
        await world.door.sign_in(world.engine, request)
