"""`code-interpreter exec`: one program, in a sandbox of a running service."""

from __future__ import annotations

import sys
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Unpack

import click

from code_interpreter_client.blocking import Client
from code_interpreter_client.calls import Options
from code_interpreter_client.command_line.durations import whole_ms
from code_interpreter_client.command_line.endings import NOT_DONE, Impossible, exit_code, say
from code_interpreter_client.command_line.fetching import fetch
from code_interpreter_client.command_line.inputs import file_options, inputs
from code_interpreter_client.command_line.service_options import calls_service, json_wanted, timeout
from code_interpreter_client.command_line.terminal import as_json, show
from code_interpreter_client.errors import CodeInterpreterError, ServiceUnreachable
from code_interpreter_client.output_folder import NotWritten, OutputFolder
from code_interpreter_client.values import Output, Result

HELP = """Run one program in a sandbox of the service.

\b
    code-interpreter exec program.py --its arguments
    code-interpreter exec -c 'print(6 * 7)'
    code-interpreter exec - < program.py
    code-interpreter exec -f sales.csv --output charts -c 'import pandas; …'

The program is FILE, - for stdin, or the text of -c; ARGS are its arguments, and options of ours stand before them.
Its stdin is ours, read to its end before the start, unless that is a terminal: </dev/null gives it none. Its output
comes as it is made. Ctrl-C ends it, and its sandbox with it.

The exit status is the program's; 124 when its time was up, 125 when it could not be run or a file not be written, 2
when the command was wrong.
"""


def _pairs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    if wrong := [each for each in values if not each.partition("=")[1] or not each.partition("=")[0]]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE.")
    return {each.partition("=")[0]: each.partition("=")[2] for each in values}


@click.command("exec", help=HELP, context_settings={"allow_interspersed_args": False})
@click.option("-c", "--code", help="The program itself, in place of FILE.")
@file_options
@click.option("-e", "--env", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="A variable for the program.")
@click.option("--session", "session_id", metavar="ID", help="Run it in this session, among its files and processes.")
@timeout
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files that it makes; else the service keeps them for a while.",
)
@click.option("--overwrite", is_flag=True, help="Files that are there already are replaced.")
@click.option(
    "--raw", is_flag=True, help="Control sequences in its output, colours too, reach the terminal as they are."
)
@json_wanted
@click.argument("program", metavar="[FILE] [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@calls_service
def exec_command(
    client: Client,
    code: str | None,
    sent: dict[str, str],
    stored: dict[str, str],
    env: dict[str, str],
    session_id: str | None,
    timeout_seconds: float,
    output: Path | None,
    overwrite: bool,
    raw: bool,
    json_wanted: bool,
    program: tuple[str, ...],
) -> int:
    text, stdin, args = _program(code, program)
    options = _given(stdin=stdin, args=args, env=env, session_id=session_id)
    options["timeout_ms"] = whole_ms(timeout_seconds)
    with (
        OutputFolder(output, overwrite=overwrite) if output else nullcontext() as folder,
        inputs(client, sent, stored) as files,
    ):
        options["files"] = files
        result = client.execute(text, **options) if json_wanted else _shown(client, text, raw=raw, **options)
        trouble = {} if folder is None else _taken_over(client, result, folder)
    if json_wanted:
        click.echo(as_json({**asdict(result), "files_not_written": trouble}))
    else:
        _remarks(result, trouble, has_folder=folder is not None)
    # A script that goes by the status alone would read a file of yesterday.
    return exit_code(result.exit_code) or (NOT_DONE if trouble else 0)


def _given(*, stdin: str | None, args: tuple[str, ...], env: dict[str, str], session_id: str | None) -> Options:
    # As `python FILE` does it: nothing is echoed.
    options: Options = {"args": args, "env": env, "last_line_interactive": False}
    if stdin is not None:
        options["stdin"] = stdin
    if session_id is not None:
        options["session_id"] = session_id
    return options


def _program(code: str | None, program: tuple[str, ...]) -> tuple[str, str | None, tuple[str, ...]]:
    """Its text, its stdin and its arguments. Raises `Impossible`, `OSError` and `UsageError`."""
    if code is not None:
        return code, _stdin(), program
    if not program:
        raise click.UsageError("There is no program: name a FILE, - for stdin, or give its text with -c.")
    file, *args = program
    if file == "-":
        return _text(sys.stdin.buffer, "The program"), None, tuple(args)
    with open(file, "rb") as opened:
        return _text(opened, file), _stdin(), tuple(args)


def _stdin() -> str | None:
    return None if sys.stdin.isatty() else _text(sys.stdin.buffer, "stdin")


def _text(source: IO[bytes], name: str) -> str:
    try:
        return source.read().decode("utf-8")
    except UnicodeDecodeError:
        raise Impossible(f"{name} is not UTF-8; --file sends any bytes as a file.") from None


def _shown(client: Client, code: str, *, raw: bool, **options: Unpack[Options]) -> Result:
    # Closed whatever happens, Ctrl-C above all: that is what ends the run.
    with closing(client.stream(code, **options)) as events:
        for event in events:
            if not isinstance(event, Output):
                return event
            show(event.stream, event.data, raw=raw)
    raise ServiceUnreachable("The stream ended without a result.")


def _taken_over(client: Client, result: Result, folder: OutputFolder) -> dict[str, str]:
    """Take over the files of a run; return why some were not written, by path."""
    trouble = {}
    for file in result.files:
        try:
            fetch(client, file.file_id, folder, file.path)
            with suppress(CodeInterpreterError):
                client.delete_file(file.file_id)
        except NotWritten as error:
            trouble[file.path] = f"{error} It is stored as {file.file_id}."
        except CodeInterpreterError as error:
            trouble[file.path] = f"{file.path} could not be fetched: {error}"
    return trouble


def _remarks(result: Result, trouble: dict[str, str], *, has_folder: bool) -> None:
    """What its own output does not say."""
    remarks = [f"ended by {result.reason}"] if result.reason not in (None, "exited", "signal") else []
    remarks += [f"limit reached: {limit}" for limit in result.limits_hit]
    remarks += [f"{stream} was cut" for stream in result.truncated]
    remarks += [f"not returned: {each.path} ({each.reason})" for each in result.files_skipped]
    remarks += trouble.values()
    if not has_folder:
        remarks += [f"{each.path} is stored as {each.file_id}; --output DIR fetches files" for each in result.files]
    for remark in remarks:
        say(remark)
