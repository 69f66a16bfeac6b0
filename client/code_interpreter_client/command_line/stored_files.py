"""`code-interpreter files`: what the service stores for its callers."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from code_interpreter_client.blocking import Client
from code_interpreter_client.command_line.endings import Impossible, each, judge
from code_interpreter_client.command_line.fetching import fetch
from code_interpreter_client.command_line.service_options import calls_service, json_wanted, service_options
from code_interpreter_client.command_line.terminal import as_json, moment, printable, table
from code_interpreter_client.output_folder import NotWritten, OutputFolder
from code_interpreter_client.values import StoredFile


@click.group()
@service_options
def files(**_options: object) -> None:
    """Store files for programs, fetch what they wrote.

    \b
        code-interpreter files put sales.csv       # prints its id
        code-interpreter files list
        code-interpreter files get ID              # under its own name; -o FILE, -o FOLDER/ or -o - elsewhere
        code-interpreter files delete ID ID

    The service forgets files after a while, an hour by default.
    """


@files.command("put")
@click.option("--name", help="What it is called there, in place of its own name. Needed for stdin.")
@json_wanted
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@calls_service
def put(client: Client, name: str | None, json_wanted: bool, paths: tuple[str, ...]) -> int:
    """Store files, - for stdin, and print the id of each, one a line."""
    if name is not None and len(paths) > 1:
        raise click.UsageError("--name is for one file.")
    if name is None and "-" in paths:
        raise click.UsageError("stdin has no name; --name gives it one.")
    stored: list[StoredFile] = []
    failed: list[Exception] = []

    def store(path: str) -> None:
        stored.append(client.upload(_read(path), name or Path(path).name))
        if not json_wanted:
            click.echo(printable(stored[-1].file_id))  # at once: what comes later may fail

    status = each(paths, store, failed=failed)
    if json_wanted:
        nothing_done = judge(failed[0]).report if failed and not stored else None
        click.echo(as_json(nothing_done or [asdict(file) for file in stored]))
    return status


def _read(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


@files.command("list")
@json_wanted
@calls_service
def list_command(client: Client, json_wanted: bool) -> int:
    """Show what is stored, the oldest first."""
    found = sorted(client.files(), key=lambda file: file.upload_time or 0.0)
    if json_wanted:
        click.echo(as_json([asdict(file) for file in found]))
    elif found:
        rows = [(file.file_id, str(file.size_bytes), moment(file.upload_time), file.filename) for file in found]
        click.echo(table(("ID", "BYTES", "STORED", "NAME"), rows))
    return 0


@files.command("get")
@click.option(
    "-o",
    "--output",
    default="./",
    show_default=True,
    metavar="FILE|FOLDER/|-",
    help="A file, a folder (it exists, or ends in /) in which each gets its own name, or - for stdout.",
)
@click.option("--overwrite", is_flag=True, help="Files that are there already are replaced.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@calls_service
def get(client: Client, output: str, overwrite: bool, ids: tuple[str, ...]) -> int:
    """Fetch files. What is there already stays, unless --overwrite is given."""
    if output == "-":
        return each(ids, lambda file_id: _to_stdout(client, file_id))
    target = Path(output)
    if output.endswith("/") or target.is_dir():
        return _to_folder(client, ids, target, overwrite=overwrite)
    if len(ids) > 1:
        raise click.UsageError(f"{len(ids)} files do not fit into one; -o {output}/ is a folder.")
    with OutputFolder(target.parent, overwrite=overwrite) as folder:
        return each(ids, lambda file_id: fetch(client, file_id, folder, target.name))


def _to_folder(client: Client, ids: Iterable[str], target: Path, *, overwrite: bool) -> int:
    names = {file.file_id: file.filename for file in client.files()}
    with OutputFolder(target, overwrite=overwrite) as folder:
        return each(ids, lambda file_id: fetch(client, file_id, folder, _plain(file_id, names)))


def _plain(file_id: str, names: dict[str, str]) -> str:
    """The name that the service has for it. Raises `Impossible`, `NotWritten`."""
    if file_id not in names:
        raise Impossible(f"File with ID '{file_id}' not found")
    name = names[file_id]
    # SECURITY: the name is a program's or the service's choice. None may become a shell's start file, or lie in another
    # folder than the one asked for; nor be an option to who types `tar -cf x *` there, or move the cursor of who lists
    # it (tests/integration/test_command_line_files.py).
    if "/" in name or name.startswith((".", "-")) or not name.isprintable():
        reason = "which is hidden, in a folder, an option or not to be shown"
        raise NotWritten(f"{file_id} is called {name!r}, {reason}; -o FILE says where it is to be.")
    return name


def _to_stdout(client: Client, file_id: str) -> None:
    with closing(client.pieces(file_id)) as pieces:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@files.command("delete")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@calls_service
def delete(client: Client, ids: tuple[str, ...]) -> int:
    """Delete files."""
    return each(ids, client.delete_file)
