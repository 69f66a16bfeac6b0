"""What our protocol adds to a stream: a `ping` and its `pong` beside a line through `cat`, in the same pod."""

from __future__ import annotations

import time

import anyio

from benchmarks.cluster.ground import Ground
from benchmarks.cluster.plain import plain
from benchmarks.cluster.scale import Scale
from benchmarks.rows import Row
from benchmarks.spread import percentile, spread_ms
from pool.conversation import Conversation
from pool.kube import manifest
from pool.kube.streams import ExecChannel
from pool.settings import RunLimits
from sandbox_runtime import wire

ANSWER_SECONDS = 10.0
UNMEASURED = 20
LINE = wire.Writer().line(wire.Ping(nonce=1))


async def ping(ground: Ground, scale: Scale) -> list[Row]:
    """In turns, so that whatever else the machine does falls on both."""
    pings, cats = [], []
    async with plain(ground) as pods:
        pod = await pods.post()
        await pods.ready(pod)
        async with pods.exec(pod, manifest.SUPERVISE) as channel, pods.exec(pod, ("cat",)) as other:
            conversation = Conversation(channel, RunLimits())
            await conversation.hello(anyio.current_time() + ANSWER_SECONDS)
            for _ in range(UNMEASURED + scale.pings):
                pings.append(await _ping_seconds(conversation))
                cats.append(await _cat_seconds(other))
        await pods.delete(pod)
    pings, cats = pings[UNMEASURED:], cats[UNMEASURED:]
    return [
        Row(
            what="round trip of a ping frame ÷ of a line through cat, p50",
            value=percentile(pings, 50) / percentile(cats, 50),
            unit="x",
            bar=1.5,
            aim=1.1,
            details={"ping": spread_ms(pings), "cat": spread_ms(cats)},
        ),
        Row(what="  ping, p50", value=percentile(pings, 50) * 1000, unit="ms"),
        Row(what="  cat, p50", value=percentile(cats, 50) * 1000, unit="ms"),
    ]


async def _ping_seconds(conversation: Conversation) -> float:
    began = time.perf_counter()
    await conversation.probe(anyio.current_time() + ANSWER_SECONDS)
    return time.perf_counter() - began


async def _cat_seconds(channel: ExecChannel) -> float:
    began = time.perf_counter()
    await channel.send(LINE)
    said = b""
    while not said.endswith(b"\n"):
        said += await channel.receive()
    return time.perf_counter() - began
