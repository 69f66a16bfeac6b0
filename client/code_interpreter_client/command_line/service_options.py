"""Which service is called, and with which key."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx
from click.core import ParameterSource

from code_interpreter_client.blocking import Client
from code_interpreter_client.command_line.durations import seconds
from code_interpreter_client.command_line.endings import Impossible, judge, say, sentences

F = TypeVar("F", bound=Callable[..., Any])

LOCAL_URL = "http://127.0.0.1:8000"
MAX_KEY_BYTES = 4096


def _a_url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise click.BadParameter(f"{value!r} is no address of a service; {LOCAL_URL} is one.")
    return value


def _no_key(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    # SECURITY: arguments of a process are everybody's to read (tests/integration/test_command_line.py).
    if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
        raise click.UsageError(
            "A key among the arguments can be read by everybody on this machine. "
            "Put it into CODE_INTERPRETER_API_KEY, or into a file that --api-key-file names."
        )
    return value


OPTIONS = (
    click.option(
        "--url", envvar="CODE_INTERPRETER_URL", default=LOCAL_URL, callback=_a_url, help="The service.",
        show_default=True, show_envvar=True,
    ),
    click.option(
        "--api-key-file", envvar="CODE_INTERPRETER_API_KEY_FILE", type=click.Path(path_type=Path), show_envvar=True,
        help="File with the API key. Or put the key itself into CODE_INTERPRETER_API_KEY.",
    ),
    click.option("--api-key", envvar="CODE_INTERPRETER_API_KEY", callback=_no_key, hidden=True),
)  # fmt: skip

timeout = click.option(
    "--timeout",
    "timeout_seconds",
    type=float,
    callback=seconds,
    default=60.0,
    show_default=True,
    help="Seconds it may run.",
)
json_wanted = click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object; errors are one too.")


def service_options(command: F) -> F:
    """For a group: its options hold for all its commands."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def calls_service(command: Callable[..., int]) -> Callable[..., None]:
    """A command whose first argument is a client of the service that was asked for."""

    @wraps(command)
    def run(**options: Any) -> int:
        with _client(*(_chosen(name, options.pop(name)) for name in ("url", "api_key_file", "api_key"))) as client:
            return command(client, **options)

    return service_options(sentences(judge)(run))


def _chosen(name: str, value: Any) -> Any:
    """An option of the group (`files --url … list`) yields to the command's own, and goes before the environment."""
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            return context.params[name]
        context = context.parent
    return value


def _client(url: str, api_key_file: Path | None, api_key: str | None) -> Client:
    key = api_key if api_key_file is None else _read(api_key_file)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise Impossible(
            "The API key is not one: there are line breaks, control characters or others beyond ASCII in it."
        )
    return Client(url, api_key=key, sleep=_wait)


def _read(file: Path) -> str:
    """Raises `OSError`."""
    with file.open("rb") as opened:
        return opened.read(MAX_KEY_BYTES).strip().decode("utf-8", "replace")


def _wait(wait_seconds: float) -> None:
    say(f"the service is busy; trying again in {wait_seconds:g} s")
    time.sleep(wait_seconds)
