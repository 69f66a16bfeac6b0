"""The command line. Errors are sentences on stderr; nobody who types a command is shown a traceback."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click

from broker import doctor, run_once
from broker.backends import blamed_on_a_setting, create_backend
from broker.event_loop import allow_many_open_files, event_loop
from broker.failures import bare, places
from broker.keys import KEY_PREFIX, KeysBroken, line_for
from broker.logs import configure
from broker.output_folder import OutputFolder
from broker.server import serve as serve_http
from broker.service import SERVICE_VERSION
from broker.setting_values import SettingsError
from broker.settings import from_environment
from pool import PoolError, ProtocolError, SandboxError

T = TypeVar("T")

REFUSED = 1
TIMED_OUT = 124
"""As `timeout` of coreutils says it."""
NOT_RUN = 125
"""As `docker run` says that it was not the program that failed."""
INTERRUPTED = 130
OUTPUT_CLOSED = 141
"""As a shell says it of a program that SIGPIPE ended."""
KEY_BYTES = 32
"""256 bits: nobody guesses one, so nothing slows guessing down."""
LONGEST_RUN_SECONDS = 24 * 3600


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(SERVICE_VERSION, prog_name="code-interpreter")
def cli() -> None:
    """Runs untrusted Python in sandboxes that were started before the request came."""


def main() -> None:
    _open_closed_streams()
    cli()


def _open_closed_streams() -> None:
    """A stream that was closed for us (`<&-`, `>&-`) is an empty one: its number would go to some socket of ours."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115  # for good


def _sentences(command: Callable[..., int]) -> Callable[..., None]:
    """Exit with what the command returns; say what went wrong in one sentence."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            status = command(*args, **options)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Exception as error:
            status = _say(bare(error))
        sys.exit(status)

    return run


def _say(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has gone, as `head` does when it has enough. Not to flush there at the end:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # open until the process ends
        return OUTPUT_CLOSED
    known = isinstance(error, SettingsError | run_once.TooLong | PoolError | SandboxError | ProtocolError | OSError)
    text = (
        str(error) if known else f"an error of its own, please report it: {type(error).__name__} at {places(error)[-1]}"
    )
    click.echo(f"code-interpreter: {text}", err=True)
    return REFUSED if isinstance(error, SettingsError) else NOT_RUN


def _on_event_loop(function: Callable[..., Awaitable[T]], *args: object) -> T:
    return anyio.run(function, *args, backend_options=event_loop(as_root=os.geteuid() == 0))


@cli.command()
@_sentences
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


def _seconds(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0.001 <= value <= LONGEST_RUN_SECONDS:
        raise click.BadParameter(f"{value:g} is not in the range 0.001 to {LONGEST_RUN_SECONDS} seconds.")
    return value


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files that it makes.")
@click.option("--overwrite", is_flag=True, help="Files that are there already are replaced.")
@click.option("--timeout", "timeout_seconds", type=float, callback=_seconds, help="Seconds it may run.")
@click.option("--json", "as_json", is_flag=True, help="Say everything at the end, as one JSON object.")
@click.argument("file", type=click.File("rb"))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@_sentences
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
    return TIMED_OUT if outcome.exit_code is None else outcome.exit_code


@cli.command("keys")
@click.option("--note", default="", help="Where the key is used; kept in its line.")
@click.argument("tenant")
@_sentences
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


@cli.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@_sentences
def doctor_command(as_json: bool) -> int:
    """Show each protection: there or missing, what that means, how to get it. Exit 1 where `serve` would refuse."""
    report = doctor.examine(from_environment())
    click.echo(report.json() if as_json else report.table())
    return 0 if report.serves else 1
