"""The commands that need the service's own libraries: `serve`, `run`, `keys`, `doctor`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click

from broker import doctor, run_once
from broker.backends import blamed_on_a_setting, create_backend
from broker.event_loop import allow_many_open_files, event_loop
from broker.failures import bare
from broker.keys import KEY_PREFIX, KeysBroken, line_for
from broker.logs import configure
from broker.server import serve as serve_http
from broker.setting_values import SettingsError
from broker.settings import from_environment
from code_interpreter_client.command_line.durations import seconds
from code_interpreter_client.command_line.endings import NOT_DONE, Ending, exit_code, of_its_own, sentences
from code_interpreter_client.output_folder import OutputFolder
from pool import PoolError, ProtocolError, SandboxError

T = TypeVar("T")

REFUSED = 1
KEY_BYTES = 32
"""256 bits: nobody guesses one, so nothing slows guessing down."""


def _judge(error: Exception) -> Ending:
    known = isinstance(error, SettingsError | run_once.TooLong | PoolError | SandboxError | ProtocolError | OSError)
    status = REFUSED if isinstance(error, SettingsError) else NOT_DONE
    return Ending(status, str(error) if known else of_its_own(error))


def _on_event_loop(function: Callable[..., Awaitable[T]], *args: object) -> T:
    return anyio.run(function, *args, backend_options=event_loop(as_root=os.geteuid() == 0))


@click.command()
@sentences(_judge)
def serve() -> int:
    """Serve HTTP until SIGTERM. Settings come from the environment; the README lists them."""
    settings = from_environment()
    configure(settings.log_level, settings.log_format)
    allow_many_open_files()
    backend = create_backend(settings, preload=settings.preload)
    try:
        _on_event_loop(serve_http, settings, backend, click.echo)
    except Exception as error:
        raise blamed_on_a_setting(bare(error), settings) from None
    return 0


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files that it makes.")
@click.option("--overwrite", is_flag=True, help="Files that are there already are replaced.")
@click.option("--timeout", "timeout_seconds", type=float, callback=seconds, help="Seconds it may run.")
@click.option("--json", "as_json", is_flag=True, help="Say everything at the end, as one JSON object.")
@click.argument("file", type=click.File("rb"))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@sentences(_judge)
def run(
    output: Path | None, overwrite: bool, timeout_seconds: float | None, as_json: bool, file: Any, args: tuple[str, ...]
) -> int:
    """Run one program in a sandbox, without a server.

    FILE is the program, - for stdin; ARGS are its arguments. Its stdin is ours, read to its end before the start,
    unless that is a terminal.
    The exit status is the program's; 124 when its time was up, 125 when it could not be run.
    """
    for option in run_once.misplaced(args):
        click.echo(f"code-interpreter: {option} behind FILE is the program's; ours stand before it", err=True)
    settings = from_environment()
    configure("error", "plain")
    asked = run_once.ask(settings, file, args, timeout_seconds=timeout_seconds)
    backend = create_backend(settings, preload=())
    with OutputFolder(output, overwrite=overwrite) if output else nullcontext() as folder:
        outcome = _on_event_loop(run_once.run, settings, backend, asked, folder, as_json)
    return exit_code(outcome.exit_code)


@click.command("keys")
@click.option("--note", default="", help="Where the key is used; kept in its line.")
@click.argument("tenant")
@sentences(_judge)
def keys_command(tenant: str, note: str) -> int:
    """Make an API key for TENANT.

    The line for the key file goes to stdout, the key to stderr, once: nothing here or in the file can show it again.
    `code-interpreter keys search >> keys.jsonl` stores the line and shows the key.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    try:
        line = line_for(tenant, key, note)
    except KeysBroken as error:
        raise SettingsError(f"{tenant} is no name for a tenant: {error}.") from None
    click.echo(line)
    click.echo(f"The key, shown this once: {key}", err=True)
    return 0


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@sentences(_judge)
def doctor_command(as_json: bool) -> int:
    """Show each protection: there or missing, what that means, how to get it. Exit 1 where `serve` would refuse."""
    report = doctor.examine(from_environment())
    click.echo(report.json() if as_json else report.table())
    return 0 if report.serves else 1


COMMANDS = (serve, run, keys_command, doctor_command)
