"""How a command ends: with its exit code and, where something went wrong, a sentence on stderr; never a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from code_interpreter_client.command_line.terminal import as_json, printable
from code_interpreter_client.errors import CodeInterpreterError, RunFailed, ServiceRefused
from code_interpreter_client.output_folder import NotWritten
from code_interpreter_client.values import Json

TIMED_OUT = 124
"""As `timeout` of coreutils says it."""
NOT_DONE = 125
"""As `docker run` says that it was not the program that failed."""
INTERRUPTED = 130
OUTPUT_CLOSED = 141
"""As a shell says it of a program that SIGPIPE ended."""


class Impossible(Exception):
    """What was asked for cannot be done. The text says why."""


@dataclass(frozen=True)
class Ending:
    status: int
    sentence: str
    report: Json | None = None
    """For `--json`."""


def sentences(judge: Callable[[Exception], Ending]) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Exit with what the command returns, or as `judge` has it of what it raises."""

    def decorate(command: Callable[..., int]) -> Callable[..., None]:
        @wraps(command)
        def run(*args: Any, **options: Any) -> None:
            try:
                status = command(*args, **options)
            except KeyboardInterrupt:
                status = INTERRUPTED
            except click.ClickException:
                raise
            except Exception as raised:
                error = _bare(raised)
                unread = isinstance(error, BrokenPipeError)
                status = _unread() if unread else _say(judge(error), as_report=options.get("json_wanted") is True)
            sys.exit(status)

        return run

    return decorate


def _bare(error: Exception) -> Exception:
    """The error inside the groups that task groups wrap around it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _unread() -> int:
    # Whoever read our output has gone, as `head` does when it has enough. Not to flush there at the end:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # open until the process ends
    return OUTPUT_CLOSED


def _say(ending: Ending, *, as_report: bool) -> int:
    say(ending.sentence)
    if as_report and ending.report is not None:
        click.echo(as_json(ending.report))
    return ending.status


def say(sentence: str) -> None:
    """On stderr, whoever wrote it."""
    click.echo(f"code-interpreter: {printable(sentence)}", err=True)


def of_its_own(error: BaseException) -> str:
    """For an error that nobody expected. Not what it says: that may quote a program."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
    return f"an error of its own, please report it: {type(error).__name__} at {place}"


def judge(error: Exception) -> Ending:
    """Of calls to a service."""
    text = _text(error)
    return Ending(NOT_DONE, text, {"error": {"detail": text, **_facts(error)}})


def _text(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError | UnicodeDecodeError):
        return "What was typed is not UTF-8, and so cannot be sent."
    known = isinstance(error, CodeInterpreterError | Impossible | NotWritten | OSError)
    return str(error) if known else of_its_own(error)


def _facts(error: Exception) -> Json:
    if not isinstance(error, ServiceRefused | RunFailed):
        return {"code": "not_reached" if isinstance(error, CodeInterpreterError) else "not_done", "retryable": False}
    status = {"status": error.status} if isinstance(error, ServiceRefused) else {}
    return {"code": error.code, "retryable": error.retryable, **status}


def exit_code(status: int | None) -> int:
    """Ours, of a program's."""
    if status is None:
        return TIMED_OUT
    return status if 0 <= status <= 255 else NOT_DONE  # its low byte may be 0, which says that all went well


def each(names: Iterable[str], act: Callable[[str], object], *, failed: list[Exception] | None = None) -> int:
    """As `rm` does it: one that fails is said and does not stop the others, and shows in the exit code.

    `failed` takes the errors.
    """
    status = 0
    for name in names:
        try:
            act(name)
        except BrokenPipeError:
            raise
        except (ServiceRefused, NotWritten, Impossible, OSError) as error:
            say(str(error))
            status = NOT_DONE
            if failed is not None:
                failed.append(error)
    return status
