"""Sessions from the first sign-in to the last sign-out: rotation, reuse, throttles, and how soon every worker knows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from auth.throttles import PER_DEVICE_MAX, WINDOW_S
from sandbox.phone import Account
from tests.journeys.lines import Line, heard_everywhere, outcome
from tests.journeys.people import People

EVERYWHERE_MAX_S = 2.0  # a second is promised; the rest is for a machine that does other things


class Device:
    """A phone of one account, with what its last exchange gave it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.id = f"device-{secrets.token_hex(4)}"
        self.access_token = ""
        self.refresh_token = ""

    async def sign_in(self, line: Line, *, password: str | None = None) -> httpx.Response:
        """Sign in, with the account's password or another."""
        answer = await line.ask(
            "POST",
            "/v1/auth/tokens",
            payload={
                "grant": "password",
                "app": self.account.app,
                "login": self.account.login,
                "password": self.account.password if password is None else password,
                "device": {"id": self.id, "name": f"Téléphone {self.id}"},
            },
        )
        return self._keep(answer)

    async def refresh(
        self, line: Line, token: str | None = None, *, device: str | None = None
    ) -> httpx.Response:
        """Exchange the refresh token, or another one, as this device or as another."""
        payload = {"refresh_token": token or self.refresh_token, "device": {"id": device or self.id}}
        return self._keep(await line.ask("POST", "/v1/auth/tokens/refresh", payload=payload))

    async def sessions(self, line: Line) -> list[dict[str, Any]]:
        """The sessions of the account as this device is told them."""
        answer = await line.get("/v1/auth/sessions", self.access_token)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["sessions"])

    async def session(self, line: Line) -> str:
        """The id of this device's session."""
        return str(next(each["id"] for each in await self.sessions(line) if each["current"]))

    async def reads(self, lines: Sequence[Line]) -> list[tuple[int, str]]:
        """What the timetable answers this device at every worker."""
        path = f"/v1/pupils/{self.account.id}/timetable"
        return [outcome(await line.get(path, self.access_token)) for line in lines]

    async def locked_out(self, lines: Sequence[Line], *, since: float) -> dict[str, float]:
        """Wait until every worker says that the session ended; seconds until each did."""

        async def ended(line: Line) -> bool:
            (answer,) = await self.reads([line])
            assert answer in {(200, ""), ENDED}
            return answer == ENDED

        return await heard_everywhere(lines, ended, what=f"{self.id} is signed out", since=since)

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 200:
            self.access_token = answer.json()["access_token"]
            self.refresh_token = answer.json()["refresh_token"]
        return answer


ENDED = (401, "session-ended")
SHOWN = (200, "")


@pytest.fixture(scope="module")
async def unused(accounts: asyncpg.Connection, people: People) -> Iterator[Account]:
    """Students who have never signed in."""
    samples = [people.student.id, people.classmate.id, people.stranger.id, people.untaught]
    rows = await accounts.fetch(
        """
        SELECT login, subject FROM accounts WHERE role = 'student' AND NOT (subject = ANY ($1))
          AND NOT EXISTS (SELECT FROM sessions WHERE account_id = accounts.id) ORDER BY subject
        """,
        samples,
    )
    return (
        msgspec.structs.replace(
            people.student, login=row["login"], id=row["subject"], pupil_id=row["subject"], class_id=""
        )
        for row in rows
    )


@pytest.fixture
def account(unused: Iterator[Account]) -> Account:
    """A student who has never signed in."""
    return next(unused)


@pytest.fixture
async def phone(account: Account, everywhere: tuple[Line, ...]) -> Device:
    """A phone signed in at Rabat, known to every worker, whose timetable is warm everywhere."""
    device = Device(account)
    assert (await device.sign_in(everywhere[0])).status_code == 200
    assert await device.reads(everywhere) == [SHOWN] * len(everywhere)
    return device


@pytest.fixture
async def tablet(phone: Device, everywhere: tuple[Line, ...]) -> Device:
    """A second device of the same student, signed in at Marrakech and known to every worker."""
    device = Device(phone.account)
    assert (await device.sign_in(everywhere[-1])).status_code == 200
    assert await device.reads(everywhere) == [SHOWN] * len(everywhere)
    return device


def told(what: str, seconds: dict[str, float]) -> None:
    """Print how long every worker took, and hold the slowest to its bound."""
    print(f"{what}: every worker of both sites within {max(seconds.values()) * 1000:.0f} ms")
    assert max(seconds.values()) < EVERYWHERE_MAX_S, seconds


# Listing


async def test_both_sites_list_both_devices(
    phone: Device, tablet: Device, everywhere: tuple[Line, ...]
) -> None:
    for line in everywhere:
        listed = await phone.sessions(line)
        assert {each["device"]["id"]: each["current"] for each in listed} == {
            phone.id: True,
            tablet.id: False,
        }
        assert {each["device"]["name"] for each in listed} == {
            f"Téléphone {each.id}" for each in (phone, tablet)
        }
        assert all(str(each["created_at"]) <= str(each["last_used_at"]) for each in listed)


# Signing out


async def test_signing_out_one_device_ends_it_at_every_worker_and_leaves_the_other(
    phone: Device, tablet: Device, everywhere: tuple[Line, ...]
) -> None:
    session = await tablet.session(everywhere[0])
    answer = await everywhere[0].ask("DELETE", f"/v1/auth/sessions/{session}", token=phone.access_token)
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (204, b"", "no-store")
    told("one device signed out", await tablet.locked_out(everywhere, since=time.monotonic()))
    assert await phone.reads(everywhere) == [SHOWN] * len(everywhere)
    assert [each["device"] for each in await phone.sessions(everywhere[0])] == [
        {"id": phone.id, "name": f"Téléphone {phone.id}"}
    ]
    assert outcome(await tablet.refresh(everywhere[0])) == (401, "refresh-invalid")


async def test_signing_out_at_the_other_site_ends_every_device_at_every_worker(
    phone: Device, tablet: Device, everywhere: tuple[Line, ...]
) -> None:
    answer = await everywhere[-1].ask("DELETE", "/v1/auth/sessions", token=phone.access_token)
    answered_at = time.monotonic()
    assert answer.status_code == 204
    for device in (phone, tablet):
        told("all devices signed out", await device.locked_out(everywhere, since=answered_at))
    for device in (phone, tablet):
        assert outcome(await device.refresh(everywhere[0])) == (401, "refresh-invalid")


async def test_who_signed_out_signs_in_again(phone: Device, everywhere: tuple[Line, ...]) -> None:
    await everywhere[0].ask("DELETE", "/v1/auth/sessions", token=phone.access_token)
    assert (await phone.sign_in(everywhere[0])).status_code == 200
    assert await phone.reads(everywhere) == [SHOWN] * len(everywhere)


# Rotation


async def test_a_refresh_gives_a_new_pair_for_the_same_session(
    phone: Device, everywhere: tuple[Line, ...]
) -> None:
    session, access, refresh = await phone.session(everywhere[0]), phone.access_token, phone.refresh_token
    for line in everywhere:
        answer = await phone.refresh(line)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        tokens = answer.json()
        assert tokens["principal"]["id"] == phone.account.id
        assert (tokens["token_type"], tokens["expires_in"], tokens["refresh_expires_in"]) == (
            "Bearer",
            600,
            2592000,
        )
        assert phone.access_token != access
        assert phone.refresh_token != refresh
        access, refresh = phone.access_token, phone.refresh_token
    assert await phone.session(everywhere[0]) == session
    assert await phone.reads(everywhere) == [SHOWN] * len(everywhere)


async def test_a_device_that_lost_the_answer_may_repeat_the_exchange_at_another_site(
    phone: Device, everywhere: tuple[Line, ...]
) -> None:
    first = phone.refresh_token
    assert (await phone.refresh(everywhere[0])).status_code == 200
    lost = phone.refresh_token
    assert (await phone.refresh(everywhere[-1], first)).status_code == 200
    assert (await phone.refresh(everywhere[0])).status_code == 200, (
        "the repeated answer's token opens the next"
    )
    assert (await phone.refresh(everywhere[0], lost)).status_code == 200, "and the lost one's is its equal"
    assert await phone.reads(everywhere) == [SHOWN] * len(everywhere)


async def test_a_refresh_token_is_refused_on_another_device_and_harms_nothing(
    phone: Device, everywhere: tuple[Line, ...]
) -> None:
    refused = await phone.refresh(everywhere[0], device="somebody-elses")
    assert outcome(refused) == (401, "refresh-invalid")
    assert (await phone.refresh(everywhere[0])).status_code == 200


@pytest.mark.parametrize("thief", ["the same device", "another device"])
async def test_a_reused_refresh_token_ends_the_family_at_every_worker(
    thief: str, phone: Device, everywhere: tuple[Line, ...]
) -> None:
    stolen = phone.refresh_token
    await phone.refresh(everywhere[0])
    if thief == "the same device":
        await phone.refresh(everywhere[0])  # the next but one: no lost answer explains this
    assert await phone.reads(everywhere) == [SHOWN] * len(everywhere)
    device = None if thief == "the same device" else "a-thief"
    assert outcome(await phone.refresh(everywhere[-1], stolen, device=device)) == (401, "refresh-reused")
    told(f"a family dead by reuse from {thief}", await phone.locked_out(everywhere, since=time.monotonic()))
    assert outcome(await phone.refresh(everywhere[0])) == (401, "refresh-invalid")


async def test_an_access_token_is_no_refresh_token(phone: Device, rabat: Line) -> None:
    assert outcome(await phone.refresh(rabat, phone.access_token)) == (401, "refresh-invalid")


# Guessing


async def test_the_eleventh_wrong_password_of_a_device_waits(
    account: Account, everywhere: tuple[Line, ...]
) -> None:
    device = Device(account)
    for turn in range(PER_DEVICE_MAX):
        answer = await device.sign_in(everywhere[turn % len(everywhere)], password="wrong")
        assert outcome(answer) == (401, "credentials-invalid")
    for password in ("wrong", account.password):
        answer = await device.sign_in(everywhere[0], password=password)
        assert outcome(answer) == (429, "too-many-attempts")
        assert 0 < int(answer.headers["retry-after"]) <= WINDOW_S
    assert (await Device(account).sign_in(everywhere[0])).status_code == 200, (
        "another device is not its neighbour"
    )


async def test_an_unknown_login_reads_like_a_wrong_password(account: Account, rabat: Line) -> None:
    wrong = await Device(account).sign_in(rabat, password="wrong")
    nobody = msgspec.structs.replace(account, login="nobody@taalim.ma")
    other_app = msgspec.structs.replace(account, app="waliye")
    expected = _indistinct(wrong)
    assert expected["slug"] == "credentials-invalid"
    assert _indistinct(await Device(nobody).sign_in(rabat)) == expected
    assert _indistinct(await Device(other_app).sign_in(rabat)) == expected


def _indistinct(answer: httpx.Response) -> dict[str, object]:
    own = ("massar-request-id", "date", "content-length")
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return {**answer.json(), "instance": "", "status_code": answer.status_code, "headers": headers}


async def test_another_grant_than_a_password_is_told(account: Account, rabat: Line) -> None:
    payload = {"grant": "one-time-code", "app": account.app, "login": account.login}
    assert outcome(await rabat.ask("POST", "/v1/auth/tokens", payload=payload)) == (400, "unsupported-grant")
