"""What must not be readable in logs, metrics and Valkey, and the search for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import asyncpg
import msgspec

from sandbox.folder import Table
from sandbox.population.accounts import PARENT, STUDENT, TEACHER
from sandbox.postgres import ACCOUNTS, RECORDS

# Shorter ones occur in random bytes.
BYTES_MIN = 8
PART_LETTERS_MIN = 4

_WORD = re.compile(r"\w+")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")

# What needs no list of words: recognised by its form.
_FORMS = {
    "token": re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}"),
    # A bare 17.25 may be a duration. As a mark it stands beside its name, or in quotes as the wire and SQL have it;
    # Prometheus alone quotes numbers as well, its buckets.
    "mark": re.compile(r"""mark["'\\]*\s*[:=]\s*["'\\]*\d|(?<!le=)["']\d{1,2}\.\d{2}\\?["']"""),
    "path": re.compile(r"/(?:pupils|classes|gradebooks|people|teachers|sessions)/(?!\{|me/)[^\s\"'/]"),
    "query": re.compile(r"[?&](?:week|from|year|session|view|since|pupil_id)="),
}
_RECORDS = {
    "name": "SELECT name_fr FROM pupils UNION SELECT name_fr FROM guardians UNION SELECT name_fr FROM teachers"
    " UNION SELECT name_ar FROM pupils UNION SELECT name_ar FROM guardians UNION SELECT name_ar FROM teachers",
    "code": "SELECT massar_code FROM pupils UNION SELECT ppr FROM teachers",
    "phone": "SELECT phone FROM guardians WHERE phone <> ''",
    "birth date": "SELECT DISTINCT birth_date::text FROM pupils",
    "reason": "SELECT DISTINCT reason FROM absences WHERE reason <> ''",
    "id": "SELECT id FROM pupils UNION SELECT id FROM guardians UNION SELECT id FROM teachers"
    " UNION SELECT id FROM classes UNION SELECT id FROM absences",
}
_ACCOUNTS = {
    "login": "SELECT login FROM accounts",
    "name": "SELECT name_fr FROM accounts UNION SELECT name_ar FROM accounts",
    "password": "SELECT DISTINCT password_hash FROM accounts",
    "id": "SELECT id FROM accounts UNION SELECT sid FROM sessions",
}


class Secrets(msgspec.Struct, frozen=True):
    """Everything about everybody in a country, by kind."""

    words: Mapping[str, frozenset[str]]

    def found_in(self, text: str) -> Iterator[str]:
        """Each kind that `text` holds in any form, with the piece that gave it away."""
        readable = unquote(_ESCAPED.sub(lambda match: chr(int(match[1], 16)), text))
        for kind, form in _FORMS.items():
            if match := form.search(readable):
                yield f"{kind}: {_around(readable, match.start())}"
        present, folded = set(_WORD.findall(readable)), readable.casefold()
        present_folded = {word.casefold() for word in present}
        for kind, words in self.words.items():
            for word in words:
                if kind == "part of a name":
                    if word in present:
                        yield f"{kind}: {_around(readable, readable.index(word))}"
                elif present_folded.issuperset(_WORD.findall(word.casefold())) and word.casefold() in folded:
                    yield f"{kind}: {_around(folded, folded.index(word.casefold()))}"

    def found_in_bytes(self, content: bytes) -> Iterator[str]:
        """The same for what may be anything: no short words, which chance would find."""
        for kind, form in _FORMS.items():
            if form.search(content.decode("latin-1")):
                yield kind
        for kind, words in self.words.items():
            for word in words:
                raw = word.encode()
                if len(raw) >= BYTES_MIN and raw in content:
                    yield f"{kind}: {word}"


async def everything_about_everybody(table: Table, *, site: str) -> Secrets:
    """All that the databases of `site` say of people."""
    words: dict[str, set[str]] = {"password": {each.password for each in (STUDENT, PARENT, TEACHER)}}
    for database, questions in ((RECORDS, _RECORDS), (ACCOUNTS, _ACCOUNTS)):
        connection = await asyncpg.connect(table.databases[site][database], ssl=False)
        try:
            for kind, question in questions.items():
                found = {row[0] for row in await connection.fetch(question)}
                assert found, question
                words.setdefault(kind, set()).update(found)
        finally:
            await connection.close()
    # Each name alone as well, written as a name: `said` is a word, `Said` a person.
    words["part of a name"] = {
        part for name in words["name"] for part in name.split() if len(part) >= PART_LETTERS_MIN
    }
    return Secrets({kind: frozenset(found) for kind, found in words.items()})


def leaks_in_files(secrets: Secrets, folder: Path) -> list[str]:
    """What any file of a folder of logs gives away."""
    return _named(
        (path.name, secrets.found_in(path.read_text("utf-8", errors="replace")))
        for path in sorted(folder.iterdir())
    )


def leaks_in_texts(secrets: Secrets, texts: Mapping[str, str]) -> list[str]:
    """What any of these texts gives away."""
    return _named((name, secrets.found_in(text)) for name, text in texts.items())


def leaks_in_entries(secrets: Secrets, entries: Mapping[bytes, bytes]) -> list[str]:
    """What keys and values of a cache give away."""
    whole = b"\n".join(key + b"\n" + value for key, value in entries.items())
    return _named([("entries", secrets.found_in_bytes(whole))])


def _named(found: Iterable[tuple[str, Iterator[str]]]) -> list[str]:
    return [f"{name}: {leak}" for name, leaks in found for leak in leaks]


def _around(text: str, at: int) -> str:
    return " ".join(text[max(0, at - 60) : at + 80].split())
