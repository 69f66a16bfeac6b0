"""One conversation with one sandbox: hello, ping and pong, runs, cleanings. All deadlines on the event loop's clock.

    broker                                    sandbox
      |  <------------------------------- hello |   once, when a child is armed
      |  ping ---------------------- pong ----> |   while idle
      |  stage stage … run -------------------> |
      |  <------- output … file … outcome ----- |   every frame through `Transcript`
      |  clean ------------------- cleaned ---> |   where another program may follow

A channel that can be had anew may be lost under a run: the run goes on, and is heard out through another
(`reattach.py`). Whoever gets an exception from here must not use the conversation again.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import TypeVar

import anyio

from pool import hearing, staging
from pool.backend import Channel, Reconnect, Target
from pool.errors import (
    ChannelLost,
    InputsRefused,
    LocalProtocolError,
    RemoteProtocolError,
    SandboxLost,
    SandboxStartFailed,
)
from pool.frames import Frames
from pool.program import Outcome, Program, Sink, StagedFile, outcome_of
from pool.reattach import Reattachment
from pool.session import Session
from pool.settings import RunLimits
from pool.transcript import Transcript
from sandbox_runtime import wire

SILENCE_SECONDS = 2.0
"""In a run whose channel can be had anew: after so long without a word a ping is sent, and after as long again the
channel is taken for lost. Smaller gives up channels of busy nodes; larger leaves less time to hear of the run after
all. (A half-open connection, and the stream of a pod that is gone, say nothing: kubernetes#129144.)"""


_Answer = TypeVar("_Answer", bound=wire.Message)


class Conversation:
    def __init__(self, channel: Channel, limits: RunLimits, reconnect: Reconnect | None = None) -> None:
        """`reconnect` gets another channel to the same sandbox, where there can be another."""
        self.limits = limits
        self._frames = Frames(channel)
        self._reconnect = reconnect
        self.protocol = wire.PROTOCOL
        self.missing: tuple[str, ...] = ()
        """Steps of the lock-down that the sandbox does without, by its hello."""
        self._may_reattach_at = 0.0
        """SECURITY: without Landlock a guest can trace what is exec'd beside it, before that can forbid it: there
        nothing is, while a program may run."""
        self.runs = 0
        """How many were begun."""
        self._unacknowledged = ""
        """The run whose outcome has come, until that is said. Nobody's answer waits for the saying."""
        self.reattached = False
        """A run was heard out through another channel than it was begun on."""

    @property
    def has_landlock(self) -> bool:
        return "landlock" not in self.missing

    async def hello(self, deadline: float) -> wire.Hello:
        """The first words of a sandbox, which has had as many runs as we know of."""
        try:
            run, message = await self._frames.next(deadline, "hello")
        except RemoteProtocolError as error:
            if isinstance(error.__cause__, wire.UnknownVersion):
                raise _of_another_age(str(error)) from error
            raise
        if isinstance(message, wire.Busy):
            raise ChannelLost("another supervisor is just leaving")
        if run or not isinstance(message, wire.Hello):
            raise RemoteProtocolError(f"a {message.kind} frame before hello")
        if message.protocol not in wire.SPOKEN:
            raise _of_another_age(f"protocol {message.protocol}, spoken are {wire.SPOKEN}")
        if message.runs != self.runs:
            raise RemoteProtocolError(f"a sandbox that claims {message.runs} runs, and has had {self.runs}")
        self._expect_silence()
        self.protocol = message.protocol
        self.missing = tuple(message.missing)
        self._frames.speak(message.protocol)
        return message

    async def probe(self, deadline: float) -> None:
        """Ask for a sign of life, and get it."""
        await self._frames.probe(deadline)
        self._expect_silence()

    async def clean(self, deadline: float) -> wire.Cleaned:
        """Have it wiped, proved as it was, and armed again: with no findings another program may follow.

        That says, too, that the outcome of the last run has come.
        """
        self._unacknowledged = ""
        cleaned = await self._ask(wire.Clean(), wire.Cleaned, deadline)
        if cleaned.runs != self.runs:
            raise RemoteProtocolError(f"a sandbox that claims {cleaned.runs} runs, and has had {self.runs}")
        return cleaned

    async def reach(self, targets: Sequence[Target], deadline: float) -> list[str]:
        """Which of the targets (protocol, host, port) can be reached from inside."""
        asked = wire.Reach(targets=[list(each) for each in targets])
        return (await self._ask(asked, wire.Reached, deadline)).targets

    async def _ask(self, question: wire.Message, kind: type[_Answer], deadline: float) -> _Answer:
        await self._frames.say(question, deadline)
        run, message = await self._frames.next(deadline, kind.kind)
        if run or not isinstance(message, kind):
            raise RemoteProtocolError(f"a {message.kind} frame in place of {kind.kind}")
        self._expect_silence()
        return message

    async def renew(self, channel: Channel, deadline: float) -> wire.Hello:
        """Go on through another channel, after one that was lost while nothing ran."""
        self._frames = Frames(channel)
        return await self.hello(deadline)

    async def run(self, program: Program, files: Sequence[StagedFile], sink: Sink, deadline: float) -> Outcome:
        """Run one program, passing on what it makes as it comes.

        `deadline` is for all of it; what is left beside `timeout_ms` is for staging and collection. Time
        that the sink takes is added, for it is not the sandbox's, up to `hearing.SINK_SECONDS`.
        """
        run = uuid.uuid4().hex
        began = time.perf_counter()
        latest_start = hearing.latest_start(anyio.current_time(), deadline - program.timeout_ms / 1000)
        self._expect_silence()
        try:
            await self._stage(run, program, files, latest_start)
        except (wire.WireError, UnicodeEncodeError) as error:
            raise LocalProtocolError(f"a program that cannot be sent: {error}") from error
        self.runs += 1
        started = time.perf_counter()
        ends_at = anyio.current_time() + program.timeout_ms / 1000
        self._may_reattach_at = 0.0 if self.has_landlock else ends_at
        ended = await self._listen(run, sink, deadline)
        return outcome_of(ended, stage_seconds=started - began, run_seconds=time.perf_counter() - started)

    async def become_session(self, terms: wire.Session, files: Sequence[StagedFile], deadline: float) -> Session:
        """Stage the files, and hold the sandbox as a session from here on. No run may follow."""
        if self.protocol < 3:
            raise RemoteProtocolError(f"protocol {self.protocol} has no sessions")
        run = uuid.uuid4().hex
        self._expect_silence()
        with anyio.CancelScope(deadline=deadline) as scope:
            async with aclosing(staging.of_files(files)) as inputs:
                async for message in inputs:
                    await self._frames.gather(message, run)
            await self._frames.say(terms, deadline, run)
        if scope.cancelled_caught:
            raise SandboxLost("it did not take the session's files in time")
        _, heard = await self._frames.next(deadline, "opened")
        self._expect_silence()
        if isinstance(heard, wire.Refused):
            raise InputsRefused(heard.path, heard.resource)
        if not isinstance(heard, wire.Opened):
            raise RemoteProtocolError(f"a {heard.kind} frame in place of opened")
        return Session(self._frames, self.limits, self.missing)

    # --- saying ---

    async def _stage(self, run: str, program: Program, files: Sequence[StagedFile], deadline: float) -> None:
        """Send everything and the word to start, in as few pieces as can be: for a small program in one."""
        with anyio.CancelScope(deadline=deadline) as scope:
            async with aclosing(staging.of_run(program, files)) as inputs:
                async for message in inputs:
                    await self._frames.gather(message, run)
            collect_ms = math.floor(max(0.0, deadline - anyio.current_time()) * 1000)
            await self._frames.gather(staging.start(program, collect_ms=collect_ms), run)
            await self._frames.flush()
        if scope.cancelled_caught:
            raise SandboxLost("it did not take the program and its files in time")

    # --- hearing ---

    async def _listen(self, run: str, sink: Sink, deadline: float) -> wire.Outcome:
        with anyio.CancelScope(deadline=deadline + hearing.SINK_SECONDS):
            return await self._hear_out(Transcript(run, self.limits), sink, deadline)
        raise SandboxLost(
            f"what it made was taken too slowly: {hearing.SINK_SECONDS:.0f} s have been added to its time"
        )

    async def _hear_out(self, transcript: Transcript, sink: Sink, deadline: float) -> wire.Outcome:
        await hearing.hear_out(transcript, partial(self._hear_next, transcript), sink, deadline)
        self._expect_silence()
        ended = hearing.outcome_in(transcript)
        self._unacknowledged = transcript.run
        return ended

    async def _hear_next(self, transcript: Transcript, deadline: float) -> wire.Message:
        """The next frame of the run, through whatever channel it comes."""
        while True:
            try:
                run, message = await self._next_or_ping(deadline)
            except ChannelLost:
                await self._reattach(transcript, deadline)
                continue
            if run or not isinstance(message, wire.Pong) or self._reconnect is None:
                transcript.hear(run, message)
                return message

    async def _next_or_ping(self, deadline: float) -> tuple[str, wire.Message]:
        if self._reconnect is None:
            return await self._frames.next(deadline, "an outcome")
        if heard := await self._in_silence(deadline):
            return heard
        await self._frames.ping(deadline)
        if heard := await self._in_silence(deadline):
            return heard
        raise ChannelLost(f"not a word in {2 * SILENCE_SECONDS:.0f} s, and a ping had no answer")

    async def _in_silence(self, deadline: float) -> tuple[str, wire.Message] | None:
        """The next frame, or None after a while of silence."""
        until = anyio.current_time() + SILENCE_SECONDS
        if until >= deadline:
            return await self._frames.next(deadline, "an outcome")
        return await self._frames.next_by(until, "an outcome")

    async def _reattach(self, transcript: Transcript, deadline: float) -> None:
        if self._reconnect is None:
            raise SandboxLost("its channel was lost, and there is no other")
        self.reattached = True
        if self._may_reattach_at > deadline:
            raise SandboxLost("its channel was lost, and another may not be had while its program runs")
        await anyio.sleep_until(self._may_reattach_at)
        self._frames = await Reattachment(self._reconnect, transcript.run).frames(transcript.frames, deadline)

    async def acknowledge(self, deadline: float) -> None:
        """So that nothing is kept for a channel that need not come any more (a pod ends at once only then)."""
        run, self._unacknowledged = self._unacknowledged, ""
        if not run or self._reconnect is None:
            return
        with suppress(SandboxLost):  # what we wanted we have
            await self._frames.say(wire.Ack(), deadline, run)

    def _expect_silence(self) -> None:
        self._frames.expect_silence()


def _of_another_age(what: str) -> SandboxStartFailed:
    text = (
        f"the runtime in its image does not fit this service: {what}; rebuild it with `COPY --from=EXECUTOR_IMAGE"
        " /opt/code-interpreter /opt/code-interpreter` and `RUN python3 /opt/code-interpreter/prepare.py` from this"
        " service's release"
    )
    return SandboxStartFailed(text, reason="protocol")
