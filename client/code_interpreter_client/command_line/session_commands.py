"""`code-interpreter sessions`: sandboxes that keep their files and processes between commands."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict

import click

from code_interpreter_client.blocking import Client
from code_interpreter_client.command_line.durations import whole_ms
from code_interpreter_client.command_line.endings import NOT_DONE, each, exit_code, judge, say
from code_interpreter_client.command_line.inputs import file_options, inputs
from code_interpreter_client.command_line.service_options import (
    calls_service,
    json_wanted,
    service_options,
    timeout,
)
from code_interpreter_client.command_line.terminal import as_json, moment, printable, show
from code_interpreter_client.errors import CodeInterpreterError, ServiceRefused, ServiceUnreachable
from code_interpreter_client.values import BashResult

ttl = click.option(
    "--ttl",
    "ttl_seconds",
    type=click.IntRange(1, 86_400),
    default=900,
    show_default=True,
    help="Seconds after which it is over, whatever it does.",
)
raw = click.option("--raw", is_flag=True, help="Control sequences in output reach the terminal as they are.")


@click.group()
@service_options
def sessions(**_options: object) -> None:
    """Keep a sandbox between commands.

    \b
        id=$(code-interpreter sessions create -f repository.tar.gz)
        code-interpreter sessions bash "$id" 'tar -xzf repository.tar.gz && ls'
        code-interpreter exec --session "$id" program.py
        code-interpreter sessions delete "$id"
        code-interpreter sessions shell            # a session of its own, for as long as you type

    Files and background processes stay from one command to the next; variables and the working folder do not.
    """


@sessions.command("create")
@ttl
@file_options
@json_wanted
@calls_service
def create(client: Client, ttl_seconds: int, sent: dict[str, str], stored: dict[str, str], json_wanted: bool) -> int:
    """Open a session and print its id."""
    with inputs(client, sent, stored) as files:
        opened = client.open_session(ttl_seconds=ttl_seconds, files=files)
    click.echo(as_json(asdict(opened)) if json_wanted else printable(opened.session_id))
    return 0


@sessions.command("bash")
@timeout
@raw
@json_wanted
@click.argument("session_id", metavar="ID")
@click.argument("command")
@calls_service
def bash(client: Client, timeout_seconds: float, raw: bool, json_wanted: bool, session_id: str, command: str) -> int:
    """Run COMMAND by bash in a session; - reads it from stdin.

    The exit status is the command's; 124 when its time was up: that ends the command, not the session.
    """
    text = sys.stdin.read() if command == "-" else command
    ended = client.bash(session_id, text, timeout_ms=whole_ms(timeout_seconds))
    if json_wanted:
        click.echo(as_json(asdict(ended)))
        return exit_code(ended.exit_code)
    return _shown(ended, raw=raw)


@sessions.command("delete")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@calls_service
def delete(client: Client, ids: tuple[str, ...]) -> int:
    """Close sessions, with all that is in them."""
    return each(ids, client.close_session)


@sessions.command("shell")
@ttl
@timeout
@raw
@click.argument("session_id", metavar="[ID]", required=False)
@calls_service
def shell(client: Client, ttl_seconds: int, timeout_seconds: float, raw: bool, session_id: str | None) -> int:
    """Type commands into a session, one after the other; Ctrl-D ends it.

    Without an ID the session is a new one, and is closed at the end. Ctrl-C ends a command. Each command starts in
    /workspace: `cd` and variables hold to the end of their line.
    """
    if session_id is not None:
        return _typed(client, session_id, whole_ms(timeout_seconds), raw=raw)
    opened = client.open_session(ttl_seconds=ttl_seconds)
    if sys.stdin.isatty():
        say(f"session {opened.session_id}, until {moment(opened.expires_at)}")
    try:
        return _typed(client, opened.session_id, whole_ms(timeout_seconds), raw=raw)
    finally:
        # One that is over by itself needs no closing, and what ended the shell is the thing to hear about.
        with suppress(CodeInterpreterError):
            client.close_session(opened.session_id)


def _typed(client: Client, session_id: str, timeout_ms: int, *, raw: bool) -> int:
    status = 0
    while (line := _line()) is not None:
        try:
            status = _shown(client.bash(session_id, line, timeout_ms=timeout_ms), raw=raw) if line.strip() else status
        except KeyboardInterrupt:
            say("the command was ended")
        except (ServiceRefused, ServiceUnreachable, UnicodeEncodeError) as error:
            if isinstance(error, ServiceRefused) and error.code == "session_not_found":
                raise
            # One line that was not run is no reason to close a session, with all files that are in it.
            say(judge(error).sentence)
            status = NOT_DONE
    return status


def _line() -> str | None:
    while True:
        try:
            return input("$ " if sys.stdin.isatty() else "")
        except EOFError:
            _end_the_line()
            return None
        except KeyboardInterrupt:
            click.echo()  # as a shell does it: what was typed is forgotten


def _end_the_line() -> None:
    if sys.stdin.isatty():
        click.echo()


def _shown(ended: BashResult, *, raw: bool) -> int:
    show("stdout", ended.stdout, raw=raw)
    show("stderr", ended.stderr, raw=raw)
    if ended.timed_out:
        say("its time was up")
    return exit_code(ended.exit_code)
