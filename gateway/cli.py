"""The `massar` command: the gateway itself, documents, and whatever packages add through `massar.commands`.

Invariant: only this entry point and the ones it calls read the environment.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import msgspec

from gateway.settings import SettingsError

COMMANDS_GROUP = "massar.commands"
SANDBOX_DIR = Path(".sandbox")

# Commands that ask etcd and tell what it said.
ASKING = frozenset({"audit", "cache", "dc", "doctor", "explain"})


class _Commands(click.Group):
    """Built-in commands, then those of installed packages, loaded only when named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(
            {*super().list_commands(ctx), *(found.name for found in entry_points(group=COMMANDS_GROUP))}
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = super().get_command(ctx, cmd_name)
        if known is not None:
            return known
        for found in entry_points(group=COMMANDS_GROUP, name=cmd_name):
            try:
                command: click.Command = found.load()
            except ModuleNotFoundError:
                return None
            return command
        return None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """massar-gateway: the one door of SI-MASSAR's three mobile apps."""
    if os.environ.get("MASSAR_DIE_WITH_PARENT") == "1":
        from datacenters.lifeline import end_with_parent  # noqa: PLC0415 - Linux only, and only on request

        end_with_parent()


def run() -> None:
    """`massar` as a process. Commands that ask and tell end at once with their code.

    One was seen to abort (SIGABRT) after it had told everything while etcd's members hung; probably given-up requests, still
    alive in the HTTP client's threads, met the interpreter's end. Not reproduced; its exit code is what timers go by.
    """
    try:
        main()
    except SystemExit as ended:
        if not ASKING & set(sys.argv[1:2]):
            raise
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else int(ended.code is not None))


@main.command(short_help="Serve one site's gateway.")
def gateway() -> None:
    """Serve one site's gateway; settings come from MASSAR_ variables (docs/settings.md)."""
    from gateway.serve import run_gateway  # noqa: PLC0415 - other commands start faster without it

    try:
        sys.exit(run_gateway(os.environ))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@main.command(short_help="Run one site's director.")
def director() -> None:
    """Direct one site: look, judge, and act on this site alone as the record says (settings: docs/settings.md)."""
    from gateway.directing import run_director  # noqa: PLC0415 - other commands start faster without it

    try:
        run_director(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@main.command("gateway-part", hidden=True)
@click.argument("part", type=click.Choice(["workers", "private"]))
def gateway_part(part: str) -> None:
    """Serve one part of a gateway; started by `massar gateway` alone."""
    from gateway.serve import run_part  # noqa: PLC0415 - other commands start faster without it

    run_part(part, os.environ)


@main.command()
@click.option("--check", is_flag=True, help="Fail when the documents on disk are not these.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), default=Path("openapi"), show_default=True
)
def openapi(*, check: bool, directory: Path) -> None:
    """Write one OpenAPI document per app."""
    from gateway.openapi import documents  # noqa: PLC0415 - other commands start faster without it

    _write_or_compare(documents(), directory, check=check)


@main.command()
@click.option("--check", is_flag=True, help="Fail when the pages on disk are not these.")
@click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def docs(*, check: bool, directory: Path) -> None:
    """Write the generated pages: settings and problems."""
    from gateway.pages import pages  # noqa: PLC0415 - other commands start faster without it

    _write_or_compare(pages(), directory, check=check)


@main.command()
@click.argument("request_id", metavar="REQUEST_ID")
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A gateway's log (plain or .gz); may be repeated.",
)
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="A sandbox's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def explain(
    context: click.Context, *, request_id: str, logs: tuple[Path, ...], directory: Path | None, as_json: bool
) -> None:
    """Say what was decided for a request (its `Massar-Request-Id`), from the gateways' logs; names nobody.

    Exit code 1 when the logs hold no line of it.
    """
    from gateway import request_story  # noqa: PLC0415 - other commands start faster without it

    try:
        story = request_story.tell(request_id, logs or request_story.sandbox_logs(directory or SANDBOX_DIR))
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        msgspec.json.format(msgspec.json.encode(story)).decode() if as_json else request_story.text(story)
    )
    context.exit(0 if story.line else 1)


def _write_or_compare(texts: dict[str, str], directory: Path, *, check: bool) -> None:
    different = []
    for name, text in texts.items():
        path = directory / name
        if path.exists() and path.read_text("utf-8") == text:
            continue
        different.append(str(path))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if check and different:
        raise click.ClickException(f"out of date (run `make openapi`): {', '.join(different)}")
    click.echo(f"{len(texts)} documents, {len(different)} {'out of date' if check else 'written'}")
