"""The story of one request, from whatever logs are left."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway import request_story
from gateway.cli import main
from gateway.logs import AccessLog, words
from gateway.request_story import tell, text
from routes.problems import PROBLEMS

WORKER = "5f2c9a7e01b4"


async def lines(*numbers: int, worker: str = WORKER, **more: object) -> bytes:
    """What a gateway writes for requests of these numbers."""
    sink = io.BytesIO()
    log = AccessLog(lambda: 1_800_000_000.0, sink)
    told: dict[str, object] = {
        "status": 200,
        "outcome": "miss",
        "role": "parent",
        "relation": "child",
        **more,
    }
    for number in numbers:
        said = words(
            route="/v1/pupils/{pupil_id}/grades", method="GET", ms=12.5, epoch=3, rule="pupil-all", datacenter="rabat",
            **told,  # type: ignore[arg-type]  # what each test changes
        )  # fmt: skip
        log.write(f"{worker}-{number:x}".encode(), said)
    log.flush()
    return sink.getvalue()


async def test_everything_that_was_decided_is_told(tmp_path: Path) -> None:
    log = tmp_path / "rabat-gateway.log"
    log.write_bytes(await lines(1, 2, 31))
    shown = text(tell(f"{WORKER}-2", [log]))
    assert f"request     {WORKER}-2 at 2027-01-15 08:00:00 UTC: GET /v1/pupils/{{pupil_id}}/grades" in shown
    assert "caller      parent, relation child, rule pupil-all" in shown
    assert "cache       miss: in no tier: asked of a datacenter" in shown
    assert "datacenter  rabat answered; declared at the answer: epoch 3" in shown
    assert "answer      200 after 12.50 ms" in shown


async def test_a_refusal_leads_to_its_problem(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(await lines(1, status=404, slug="not-found", relation="-", outcome="-"))
    shown = text(tell(f"{WORKER}-1", [log]))
    assert "answer      404 not-found (docs/problems.md#not-found) after" in shown
    assert "not-found" in PROBLEMS


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"role": "-"}, "not let in: no valid token was shown (rule pupil-all)"),
        ({"journal": "kept"}, "its record was in the journal before the answer"),
        ({"journal": "unprotected"}, "without a journal record"),
        ({"outcome": "survival"}, "shown because no datacenter answered"),
    ],
)
async def test_each_word_has_its_sentence(tmp_path: Path, more: dict[str, str], told: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(await lines(1, **more))
    assert told in text(tell(f"{WORKER}-1", [log]))


async def test_an_error_under_the_same_id_stands_beside_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    error = {"event": "internal error", "request_id": f"{WORKER}-1", "error": "KeyError", "site": "rabat"}
    log.write_bytes(json.dumps(error).encode() + b"\n" + b"not json\n" + await lines(1, status=500))
    story = tell(f"{WORKER}-1", [log])
    assert story.beside == ({"event": "internal error", "error": "KeyError"},)
    assert "beside" in text(story)


async def test_an_id_that_is_not_there_is_told_apart_from_one_that_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(await lines(16, 32))
    words = {
        f"{WORKER}-2": "rotated away: these logs hold that worker's requests from number 10 on",
        f"{WORKER}-ff": "that worker's last line is number 20",
        f"{WORKER}-15": "the caller hung up before the answer",
        f"{'0' * 12}-1": "none of the 1 logs holds a line of the worker that gave this id",
    }
    for request_id, sentence in words.items():
        story = tell(request_id, [log])
        assert story.line is None
        assert sentence in text(story)
    assert "no log was read" in text(tell(f"{WORKER}-1", []))


async def test_rotated_and_packed_logs_are_read_too(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "rabat-gateway.log.1").write_bytes(await lines(1))
    (logs / "rabat-gateway.log").write_bytes(await lines(2))
    (logs / "rabat-director.log").write_bytes(b"{}\n")
    assert [path.name for path in request_story.sandbox_logs(tmp_path)] == [
        "rabat-gateway.log.1",
        "rabat-gateway.log",
    ]
    packed = tmp_path / "old.log.gz"
    packed.write_bytes(gzip.compress(await lines(9)))
    assert tell(f"{WORKER}-9", [packed]).line is not None


async def test_the_command_reads_a_sandbox_or_named_logs(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "marrakech-gateway.log"
    log.write_bytes(await lines(1))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["explain", *arguments])
        return done.exit_code, done.output

    assert run(f"{WORKER}-1", "--dir", str(tmp_path))[0] == 0
    code, said = run(f"{WORKER}-1", "--log", str(log), "--json")
    assert (code, json.loads(said)["line"]["role"]) == (0, "parent")
    assert run(f"{WORKER}-2", "--dir", str(tmp_path))[0] == 1
    code, said = run("Salma", "--dir", str(tmp_path))
    assert (code, "is no request id" in said) == (1, True)
