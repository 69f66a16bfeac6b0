"""Hearing a run out: what it makes goes to its sink as it comes; the time that the sink takes is not the sandbox's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from pool.errors import InputsRefused
from pool.program import Sink
from pool.transcript import Transcript
from sandbox_runtime import wire

OUTCOME_GRACE_SECONDS = 1.0
"""What is kept of a run's time for its end to be carried out and for its last frames to arrive, however long
collection takes. Smaller loses finished runs where the machine is busy or the network slow for a moment; larger
takes time away from staging and collection, and is at most half of what there is beside the run."""

SINK_SECONDS = 30.0
"""So much of the time that a sink takes is added to a run's deadline, in all. Smaller cuts off honest clients on
slow lines, and files on their way to a slow store; larger lets a client that reads a byte now and then hold one
of `max_in_flight` for longer. As long as the broker waits for a client that takes nothing at all."""

Hear = Callable[[float], Awaitable[wire.Message]]
"""The next frame of the run, by a deadline."""


def latest_start(now: float, latest_end: float) -> float:
    """By when a program must be sent; what is left until `latest_end` is for its last words. Its own time is aside."""
    return latest_end - max(0.0, min(OUTCOME_GRACE_SECONDS, (latest_end - now) / 2))


async def hear_out(transcript: Transcript, hear: Hear, sink: Sink, deadline: float) -> None:
    """Until its last frame. Raises what `hear` and the sink raise."""
    latest = deadline + SINK_SECONDS
    while transcript.end is None:
        message = await hear(deadline)
        asked = anyio.current_time()
        await _pass_on(message, sink)
        deadline = min(latest, deadline + anyio.current_time() - asked)


def outcome_in(transcript: Transcript) -> wire.Outcome:
    """Of a run that was heard out. Raises `InputsRefused`."""
    if isinstance(transcript.end, wire.Refused):
        raise InputsRefused(transcript.end.path, transcript.end.resource)
    if transcript.end is None:
        raise AssertionError("not heard out")
    return transcript.end


async def _pass_on(message: wire.Message, sink: Sink) -> None:
    match message:
        case wire.Output():
            await sink.output("stdout" if message.stream == "stdout" else "stderr", message.data)
        case wire.File():
            await sink.file(message.path, message.data, message.last)
