"""One conversation over one channel: hello, ping and pong, one run. All deadlines on the event loop's clock.

    broker                                    sandbox
      |  <------------------------------- hello |   once, when a child is armed
      |  ping ---------------------- pong ----> |   while idle
      |  stage stage … run -------------------> |
      |  <------- output … file … outcome ----- |   every frame through `Transcript`

Whoever gets an exception from here must not use the conversation again: the two ends may disagree
about where in the stream they are.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from pool import staging
from pool.backend import Channel
from pool.errors import InputsRefused, LocalProtocolError, RemoteProtocolError, SandboxLost
from pool.program import Outcome, Program, Reason, Sink, SkippedFile, StagedFile
from pool.settings import RunLimits
from pool.transcript import Transcript
from sandbox_runtime import wire

SEND_BYTES = 64 * 1024
"""Frames are gathered up to this before they are sent. Smaller means more calls for one small run; larger
holds more of an upload in memory and gains nothing, as one frame with a whole chunk is about as long."""

DECODE_BYTES = 16 * 1024
"""So much is decoded before others get a turn: some 150 of the smallest frames, about 3 ms. Smaller takes more
turns of the loop for a big file; larger lets a program that prints byte by byte hold up everybody else."""

OUTCOME_GRACE_SECONDS = 1.0
"""What is kept of a run's time for its end to be carried out and for its last frames to arrive, however long
collection takes. Smaller loses finished runs where the machine is busy or the network slow for a moment; larger
takes time away from staging and collection, and is at most half of what there is beside the run."""

SINK_SECONDS = 30.0
"""So much of the time that a sink takes is added to a run's deadline, in all. Smaller cuts off honest clients on
slow lines, and files on their way to a slow store; larger lets a client that reads a byte now and then hold one
of `max_in_flight` for longer. As long as the broker waits for a client that takes nothing at all."""


class Conversation:
    def __init__(self, channel: Channel, limits: RunLimits) -> None:
        self._channel = channel
        self._limits = limits
        self._writer = wire.Writer()
        self._reader = wire.Reader(wire.FROM_SANDBOX, loads=msgspec.json.decode)
        self._heard: deque[tuple[str, wire.Message]] = deque()
        self._undecoded: deque[bytes] = deque()
        self._pings = 0

    async def hello(self, deadline: float) -> wire.Hello:
        """The first words of a sandbox that has done nothing yet."""
        run, message = await self._next(deadline, "hello")
        if run or not isinstance(message, wire.Hello):
            raise RemoteProtocolError(f"a {message.kind} frame before hello")
        if message.protocol != wire.PROTOCOL:
            raise RemoteProtocolError(f"protocol {message.protocol}, need {wire.PROTOCOL}")
        if message.runs:
            raise RemoteProtocolError(f"a new sandbox that claims {message.runs} runs")
        self._expect_silence()
        return message

    async def probe(self, deadline: float) -> None:
        """Ask for a sign of life, and get it."""
        self._pings += 1
        await self._send(self._writer.line(wire.Ping(nonce=self._pings)), deadline)
        run, message = await self._next(deadline, "pong")
        if run or message != wire.Pong(nonce=self._pings):
            raise RemoteProtocolError(f"a {message.kind} frame in place of pong {self._pings}")
        self._expect_silence()

    async def run(self, program: Program, files: Sequence[StagedFile], sink: Sink, deadline: float) -> Outcome:
        """Run one program, passing on what it makes as it comes.

        `deadline` is for all of it; what is left beside `timeout_ms` is for staging and collection. Time
        that the sink takes is added, for it is not the sandbox's, up to `SINK_SECONDS`.
        """
        run = uuid.uuid4().hex
        began = time.perf_counter()
        latest_start = _latest_start(anyio.current_time(), deadline - program.timeout_ms / 1000)
        self._expect_silence()
        try:
            await self._stage(run, program, files, latest_start)
        except (wire.WireError, UnicodeEncodeError) as error:
            raise LocalProtocolError(f"a program that cannot be sent: {error}") from error
        started = time.perf_counter()
        ended = await self._listen(Transcript(run, self._limits), sink, deadline)
        return _outcome(ended, stage_seconds=started - began, run_seconds=time.perf_counter() - started)

    # --- saying ---

    async def _stage(self, run: str, program: Program, files: Sequence[StagedFile], deadline: float) -> None:
        """Send everything and the word to start, in as few pieces as can be: for a small program in one."""
        gathered = bytearray()
        with anyio.CancelScope(deadline=deadline) as scope:
            for message in staging.of_program(program):
                await self._gather(gathered, self._writer.line(message, run))
            async with aclosing(staging.of_files(files)) as inputs:
                async for message in inputs:
                    await self._gather(gathered, self._writer.line(message, run))
            collect_ms = math.floor(max(0.0, deadline - anyio.current_time()) * 1000)
            gathered += self._writer.line(staging.start(program, collect_ms=collect_ms), run)
            await self._channel.send(bytes(gathered))
        if scope.cancelled_caught:
            raise SandboxLost("it did not take the program and its files in time")

    async def _gather(self, gathered: bytearray, line: bytes) -> None:
        gathered += line
        if len(gathered) >= SEND_BYTES:
            await self._channel.send(bytes(gathered))
            gathered.clear()

    async def _send(self, data: bytes, deadline: float) -> None:
        with anyio.CancelScope(deadline=deadline) as scope:
            await self._channel.send(data)
        if scope.cancelled_caught:
            raise SandboxLost("it takes nothing in")

    # --- hearing ---

    async def _listen(self, transcript: Transcript, sink: Sink, deadline: float) -> wire.Outcome:
        with anyio.CancelScope(deadline=deadline + SINK_SECONDS):
            return await self._hear_out(transcript, sink, deadline)
        raise SandboxLost(f"what it made was taken too slowly: {SINK_SECONDS:.0f} s have been added to its time")

    async def _hear_out(self, transcript: Transcript, sink: Sink, deadline: float) -> wire.Outcome:
        latest = deadline + SINK_SECONDS
        while transcript.end is None:
            run, message = await self._next(deadline, "an outcome")
            transcript.hear(run, message)
            asked = anyio.current_time()
            await _pass_on(message, sink)
            deadline = min(latest, deadline + anyio.current_time() - asked)
        self._expect_silence()
        if isinstance(transcript.end, wire.Refused):
            raise InputsRefused(transcript.end.path, transcript.end.resource)
        return transcript.end

    async def _next(self, deadline: float, awaited: str) -> tuple[str, wire.Message]:
        while not self._heard:
            if self._undecoded:
                await checkpoint()
            else:
                self._take(await self._receive(deadline, awaited))
            self._heard.extend(self._decode(self._undecoded.popleft()))
        return self._heard.popleft()

    def _take(self, data: bytes) -> None:
        self._undecoded.extend(data[start : start + DECODE_BYTES] for start in range(0, len(data), DECODE_BYTES))

    async def _receive(self, deadline: float, awaited: str) -> bytes:
        with anyio.CancelScope(deadline=deadline) as scope:
            data = await self._channel.receive()
            # A channel that always has bytes never suspends, and so is never cancelled: look at the clock too.
            if anyio.current_time() <= deadline:
                return data
        if scope.cancelled_caught:
            raise SandboxLost(f"it fell silent: {awaited} did not come in time")
        raise SandboxLost(f"it talked on: {awaited} did not come in time")

    def _decode(self, data: bytes) -> list[tuple[str, wire.Message]]:
        try:
            return self._reader.feed(data)
        except wire.WireError as error:
            raise RemoteProtocolError(str(error)) from error

    def _expect_silence(self) -> None:
        if self._heard or self._undecoded:
            raise RemoteProtocolError("it talked on where there was nothing to say")


def _latest_start(now: float, latest_end: float) -> float:
    """By when a program must be sent; what is left until `latest_end` is for its last words. Its own time is aside."""
    return latest_end - max(0.0, min(OUTCOME_GRACE_SECONDS, (latest_end - now) / 2))


async def _pass_on(message: wire.Message, sink: Sink) -> None:
    match message:
        case wire.Output():
            await sink.output("stdout" if message.stream == "stdout" else "stderr", message.data)
        case wire.File():
            await sink.file(message.path, message.data, message.last)


def _outcome(ended: wire.Outcome, *, stage_seconds: float, run_seconds: float) -> Outcome:
    return Outcome(
        exit_code=ended.exit_code,
        reason=Reason(ended.reason),
        signal=ended.signal,
        duration_ms=ended.duration_ms,
        limits_hit=tuple(ended.limits_hit),
        stdout_truncated=ended.stdout_truncated,
        stderr_truncated=ended.stderr_truncated,
        files_skipped=tuple(SkippedFile(path, reason) for path, reason in ended.files_skipped),
        files_skipped_count=ended.files_skipped_count,
        stage_ms=stage_seconds * 1000,
        run_ms=max(0.0, run_seconds * 1000 - ended.collect_ms),
        collect_ms=float(ended.collect_ms),
    )
