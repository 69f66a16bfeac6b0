"""What the broker says to start a run: the program, its input and its files, cut into frames.

What cannot be said (a lone surrogate in the code, a path out of the workspace, more arguments than fit)
raises `UnicodeEncodeError` or `WireError`: the broker should not have let it in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager

from pool.program import Program, StagedFile
from sandbox_runtime import wire


def of_text(target: str, content: str | bytes) -> Iterator[wire.Stage]:
    """The frames for the code or the standard input; one, if it is empty."""
    data = content.encode() if isinstance(content, str) else content
    for start in range(0, max(1, len(data)), wire.MAX_CHUNK_BYTES):
        end = start + wire.MAX_CHUNK_BYTES
        yield wire.Stage(target=target, path="", data=data[start:end], last=end >= len(data))


def of_program(program: Program) -> Iterator[wire.Stage]:
    yield from of_text("code", program.code)
    if program.stdin:
        yield from of_text("stdin", program.stdin)


async def of_run(program: Program, files: Iterable[StagedFile]) -> AsyncGenerator[wire.Stage, None]:
    """All that a run gets. Must be closed."""
    for piece in of_program(program):
        yield piece
    async with aclosing(of_files(files)) as pieces:
        async for piece in pieces:
            yield piece


async def of_files(files: Iterable[StagedFile]) -> AsyncGenerator[wire.Stage, None]:
    """Must be closed: what it reads from (a file, a download) is open until then."""
    for file in files:
        async with _closing(file.read()) as pieces, aclosing(_even(pieces)) as chunks:
            async for data, last in chunks:
                yield wire.Stage(target="file", path=file.path, data=data, last=last)


@asynccontextmanager
async def _closing(pieces: AsyncIterator[bytes]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """`async for` leaves a generator open when its body is cancelled. Not every iterator is a generator, though."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _even(pieces: AsyncIterator[bytes]) -> AsyncGenerator[tuple[bytes, bool], None]:
    """Cut pieces of any size into chunks of the wire's; only the last is marked, and it may be empty."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        while len(held) > wire.MAX_CHUNK_BYTES:
            yield bytes(held[: wire.MAX_CHUNK_BYTES]), False
            del held[: wire.MAX_CHUNK_BYTES]
    yield bytes(held), True


def start(program: Program, *, collect_ms: int) -> wire.Run:
    return wire.Run(
        args=list(program.args),
        env=dict(program.env),
        last_line_interactive=program.last_line_interactive,
        timeout_ms=program.timeout_ms,
        collect_ms=collect_ms,
    )
