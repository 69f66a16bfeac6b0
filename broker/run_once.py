"""`code-interpreter run`: one program, one sandbox, no server."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any, Self

import anyio
import click
import msgspec

from broker.settings import Settings
from code_interpreter_client.output_folder import NotWritten, OutputFolder
from pool import Backend, NullObserver, Outcome, PoolSettings, Program, SandboxPool, SandboxStartFailed, Stream

# The first sandbox needs its template first: about a second on two busy cores.
START_SECONDS = 60.0
# Staging and collection, beside the program's own time.
BESIDE_SECONDS = 30.0
MAX_SOURCE_BYTES = 32 * 2**20
ATTEMPTS = 3
OPTIONS = {"--output", "--overwrite", "--timeout", "--json"}


class TooLong(Exception):
    """The program, or its input."""


def ask(settings: Settings, file: IO[bytes], args: tuple[str, ...], *, timeout_seconds: float | None) -> Program:
    """Raises `TooLong`."""
    timeout_ms = settings.max_exec_timeout_ms if timeout_seconds is None else max(1, round(timeout_seconds * 1000))
    return Program(
        code=_bytes(file, "The program"),
        stdin=_stdin(file),
        args=args,
        # As `python FILE` does it: nothing is echoed.
        last_line_interactive=False,
        timeout_ms=timeout_ms,
    )


def _stdin(program: IO[bytes]) -> bytes | None:
    """None if it is a terminal, or where the program came from."""
    if sys.stdin.isatty() or program.fileno() == sys.stdin.fileno():
        return None
    return _bytes(sys.stdin.buffer, "stdin")


def _bytes(file: IO[bytes], what: str) -> bytes:
    data = file.read(MAX_SOURCE_BYTES + 1)
    if len(data) > MAX_SOURCE_BYTES:
        raise TooLong(f"{what} is longer than {MAX_SOURCE_BYTES // 2**20} MB.")
    return data


def misplaced(args: Iterable[str]) -> list[str]:
    """Options of ours that stand behind FILE, and so are the program's."""
    return sorted({arg.partition("=")[0] for arg in args} & OPTIONS)


class Taken(msgspec.Struct):
    """What one run made, for `--json`."""

    stdout: bytearray
    stderr: bytearray
    files: dict[str, int]
    files_not_written: dict[str, str]
    """Why not."""


class TerminalSink:
    """Output to our own streams as it comes, or held for `--json`; files to the folder, or counted only."""

    def __init__(self, folder: OutputFolder | None, *, hold: bool) -> None:
        self.taken = Taken(bytearray(), bytearray(), {}, {})
        self._folder = folder
        self._hold = hold

    async def output(self, stream: Stream, data: bytes) -> None:
        if self._hold:
            (self.taken.stdout if stream == "stdout" else self.taken.stderr).extend(data)
            return
        target = sys.stdout if stream == "stdout" else sys.stderr
        target.buffer.write(data)
        target.flush()

    async def file(self, path: str, data: bytes, last: bool) -> None:
        if path in self.taken.files_not_written:
            return
        self.taken.files[path] = self.taken.files.get(path, 0) + len(data)
        try:
            if self._folder is not None:
                self._folder.write(path, data, last=last)
        except NotWritten as error:
            del self.taken.files[path]
            self.taken.files_not_written[path] = str(error)


class Patience(NullObserver):
    """Ends the wait for a sandbox when none can be started: the next attempt would fail like the last."""

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._failures: list[tuple[str, str]] = []

    def sandbox_start_failed(self, *, reason: str, text: str) -> None:
        self._failures.append((reason, text))
        if len(self._failures) == ATTEMPTS:
            self._scope.cancel()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._scope.__exit__(*raised)
        if self._scope.cancelled_caught:
            reason, text = self._failures[-1]
            raise SandboxStartFailed(f"no sandbox could be started, {ATTEMPTS} times: {text}", reason=reason)


async def run(
    settings: Settings, backend: Backend, program: Program, output: OutputFolder | None, as_json: bool
) -> Outcome:
    """Raises what the pool raises, and `OSError` for our own output."""
    sink = TerminalSink(output, hold=as_json)
    only_one = PoolSettings(size=1, max_in_flight=1, queue=1, surge=1, start_seconds=START_SECONDS, drain_seconds=0.1)
    with Patience() as patience:
        async with (
            SandboxPool(only_one, settings.limits, backend, patience) as pool,
            pool.lease(deadline=anyio.current_time() + START_SECONDS) as lease,
        ):
            deadline = anyio.current_time() + program.timeout_ms / 1000 + BESIDE_SECONDS
            outcome = await lease.run(program, [], sink, deadline)
            isolation = pool.isolation().level
    if as_json:
        click.echo(_report(outcome, sink.taken, isolation))
    else:
        _remarks(outcome, sink.taken, has_folder=output is not None)
    return outcome


def _report(outcome: Outcome, taken: Taken, isolation: str) -> bytes:
    report = msgspec.structs.asdict(outcome) | {
        "stdout": taken.stdout.decode("utf-8", "replace"),
        "stderr": taken.stderr.decode("utf-8", "replace"),
        "timed_out": outcome.timed_out,
        "files": [{"path": path, "size_bytes": size} for path, size in taken.files.items()],
        "files_not_written": [{"path": path, "reason": why} for path, why in taken.files_not_written.items()],
        "isolation": isolation,
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def _remarks(outcome: Outcome, taken: Taken, *, has_folder: bool) -> None:
    """What its own output does not say, on stderr."""
    remarks = [f"ended by {outcome.reason.value}"] if outcome.reason.value not in ("exited", "signal") else []
    remarks += [f"limit reached: {limit}" for limit in outcome.limits_hit]
    remarks += [f"{stream} was cut" for stream in ("stdout", "stderr") if getattr(outcome, f"{stream}_truncated")]
    remarks += [f"not returned: {each.path} ({each.reason})" for each in outcome.files_skipped]
    remarks += taken.files_not_written.values()
    if taken.files and not has_folder:
        remarks.append(f"{len(taken.files)} files were made and dropped; --output DIR keeps them")
    for remark in remarks:
        click.echo(f"code-interpreter: {remark}", err=True)
