"""Files of this machine on their way to a program, and the ids of those that are stored already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from code_interpreter_client.blocking import Client
from code_interpreter_client.command_line.endings import Impossible
from code_interpreter_client.errors import CodeInterpreterError

F = TypeVar("F", bound=Callable[..., Any])


def file_options(command: F) -> F:
    sent = click.option(
        "-f",
        "--file",
        "sent",
        metavar="LOCAL[:PATH]",
        multiple=True,
        callback=_apart_here,
        help="Send a file; it is found at PATH, by default under its own name. May be given several times.",
    )
    stored = click.option(
        "--stored",
        metavar="ID:PATH",
        multiple=True,
        callback=_apart_there,
        help="The same with a file that `files put` has stored.",
    )
    return sent(stored(command))


def _apart_here(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return _by_path(local_and_path(each) for each in values)


def _apart_there(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    if wrong := [each for each in values if not all(each.partition(":"))]:
        raise click.BadParameter(f"{wrong[0]!r} is not ID:PATH.")
    return _by_path((each.partition(":")[0], each.partition(":")[2]) for each in values)


def local_and_path(given: str) -> tuple[str, str]:
    """`data/a.csv` is found as `a.csv`, `data/a.csv:in/b.csv` as `in/b.csv`. Pure."""
    local, colon, path = given.rpartition(":")
    if not colon:
        local, path = given, Path(given).name
    if not local or not path:
        raise click.BadParameter(f"{given!r} is neither LOCAL nor LOCAL:PATH.")
    return local, path


def _by_path(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for source, path in pairs:
        if path in found:
            raise click.BadParameter(f"{found[path]!r} and {source!r} would both be found at {path!r}.")
        found[path] = source
    return found


@contextmanager
def inputs(client: Client, sent: Mapping[str, str], stored: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Where each file is to be, and its id. What was sent for this is deleted again. Raises `Impossible`, `OSError`."""
    if twice := sent.keys() & stored.keys():
        raise Impossible(f"{min(twice)!r} is given by --file and by --stored.")
    contents = {path: Path(local).read_bytes() for path, local in sent.items()}
    ids: dict[str, str] = {}
    try:
        for path, data in contents.items():
            ids[path] = client.upload(data, Path(path).name or "input").file_id
        yield {**stored, **ids}
    finally:
        # One that cannot be deleted now expires; whoever waits for an answer does not wait for that.
        with suppress(CodeInterpreterError):
            for file_id in ids.values():
                client.delete_file(file_id)
