from __future__ import annotations

import pytest

from auth.accounts import normalised_login
from auth.passwords import Passwords
from auth.principal import APP_OF_ROLE, App, Role
from sandbox.population.accounts import PARENT, STUDENT, TEACHER, Credential
from tests.sandbox.population.conftest import Tables


@pytest.mark.parametrize("credential", [STUDENT, PARENT, TEACHER])
async def test_the_printed_hash_is_that_of_the_printed_password(credential: Credential) -> None:
    passwords = Passwords()
    try:
        assert await passwords.verify(credential.password_hash, credential.password)
    finally:
        passwords.close()


@pytest.mark.parametrize("credential", [STUDENT, PARENT, TEACHER])
def test_each_role_has_its_own_app(credential: Credential) -> None:
    assert APP_OF_ROLE[Role(credential.role)] is App(credential.app)


def test_everybody_has_one_account_and_no_login_appears_twice(tables: Tables) -> None:
    accounts = tables["accounts"]
    logins = {(row["app"], row["login"]) for row in accounts}
    assert len(logins) == len(accounts)
    for role, table in (("student", "pupils"), ("parent", "guardians"), ("teacher", "teachers")):
        subjects = sorted(row["subject"] for row in accounts if row["role"] == role)
        assert subjects == sorted(row["id"] for row in tables[table])


def test_accounts_bear_the_names_of_the_school_records(tables: Tables) -> None:
    names = {
        row["id"]: (row["name_ar"], row["name_fr"])
        for table in ("pupils", "guardians", "teachers")
        for row in tables[table]
    }
    assert all((row["name_ar"], row["name_fr"]) == names[row["subject"]] for row in tables["accounts"])


def test_logins_are_stored_as_they_are_compared(tables: Tables) -> None:
    assert all(normalised_login(row["login"]) == row["login"] for row in tables["accounts"])


def test_logins_are_made_as_each_role_knows_them(tables: Tables) -> None:
    codes = {row["id"]: row["massar_code"] for row in tables["pupils"]}
    for row in tables["accounts"]:
        match row["role"]:
            case "student":
                assert row["login"] == f"{codes[row['subject']].lower()}@taalim.ma"
            case "parent":
                assert row["login"].endswith("@famille.example")
            case _:
                assert row["login"].endswith("@taalim.ma")
                assert "." in row["login"].partition("@")[0]
