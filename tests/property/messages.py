"""Any message that may be on the wire, for Hypothesis; and what a peer may send that is none."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from sandbox_runtime import wire

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, 2**53 - 1)
chunks = st.binary(max_size=200) | st.sampled_from([b"\0" * wire.MAX_CHUNK_BYTES, b"\xff" * wire.MAX_CHUNK_BYTES])
parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)
paths = st.lists(parts.filter(lambda part: part not in (".", "..")), min_size=1, max_size=5).map("/".join)
targets = st.tuples(st.sampled_from(["tcp", "udp"]), st.ip_addresses().map(str), st.integers(1, 65535)).map(list)
skips = st.tuples(texts, st.sampled_from(wire.SKIP_REASONS)).map(list)

from_broker: dict[str, st.SearchStrategy[wire.Message]] = {
    "ping": st.builds(wire.Ping, nonce=numbers),
    "stage": st.builds(
        wire.Stage,
        target=st.sampled_from(["code", "stdin", "file", "command"]),
        path=paths | st.just(""),
        data=chunks,
        last=st.booleans(),
    ),
    "run": st.builds(
        wire.Run,
        args=st.lists(texts, max_size=20),
        env=st.dictionaries(names, texts, max_size=10),
        last_line_interactive=st.booleans(),
        timeout_ms=st.integers(1, 2**53 - 1),
        collect_ms=numbers,
    ),
    "cancel": st.builds(wire.Cancel),
    "attach": st.builds(wire.Attach, heard=numbers),
    "ack": st.builds(wire.Ack),
    "clean": st.builds(wire.Clean),
    "reach": st.builds(wire.Reach, targets=st.lists(targets, max_size=16)),
    "session": st.builds(wire.Session, ttl_ms=st.integers(1, 2**53 - 1), proof=texts, loopback=st.booleans()),
    "prove": st.builds(wire.Prove, token=texts),
    "shell": st.builds(wire.Shell, timeout_ms=st.integers(1, 2**53 - 1), wait_ms=st.integers(0, 2**53 - 1)),
}

from_sandbox: dict[str, st.SearchStrategy[wire.Message]] = {
    "hello": st.builds(
        wire.Hello,
        protocol=numbers,
        runtime=texts,
        python=texts,
        lockdown=st.lists(texts, max_size=9),
        missing=st.lists(texts, max_size=9),
        preloaded=st.lists(texts, max_size=9),
        limits=st.dictionaries(names, numbers, max_size=9),
        runs=numbers,
    ),
    "pong": st.builds(wire.Pong, nonce=numbers),
    "refused": st.builds(
        wire.Refused, path=paths | st.just(""), resource=st.sampled_from(["disk", "inodes", "file_size"])
    ),
    "output": st.builds(wire.Output, stream=st.sampled_from(wire.STREAMS), data=chunks),
    "file": st.builds(wire.File, path=paths, data=chunks, last=st.booleans()),
    "outcome": st.builds(
        wire.Outcome,
        exit_code=st.none() | st.integers(0, 255),
        reason=st.sampled_from(wire.REASONS),
        signal=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=32),
        duration_ms=numbers,
        collect_ms=numbers,
        limits_hit=st.lists(st.sampled_from(wire.RESOURCES), max_size=9),
        stdout_truncated=st.booleans(),
        stderr_truncated=st.booleans(),
        files_skipped=st.lists(skips, max_size=20),
        files_skipped_count=numbers,
    ),
    "kept": st.builds(wire.Kept),
    "busy": st.builds(wire.Busy),
    "cleaned": st.builds(
        wire.Cleaned,
        findings=st.lists(texts, max_size=9),
        evidence=st.dictionaries(names, numbers, max_size=9),
        runs=numbers,
    ),
    "opened": st.builds(wire.Opened, left_ms=numbers),
    "reached": st.builds(wire.Reached, targets=st.lists(texts, max_size=16)),
}

runs = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)

# --- what is no message ---

numbers_of_all_kinds = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers_of_all_kinds | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)


@st.composite
def almost_frames(draw: st.DrawFn) -> bytes:
    """A frame whose envelope is right and whose body has the right fields, one of them with anything in it."""
    kind = draw(st.sampled_from([*from_broker, *from_sandbox]))
    cls = next(each for each in wire.FROM_BROKER | wire.FROM_SANDBOX if each.kind == kind)
    body: dict[str, Any] = json.loads(wire.Writer().line(draw({**from_broker, **from_sandbox}[kind])))["body"]
    name = draw(st.sampled_from([*cls.checks, "self", "kind", "fields", "__slots__"]))
    frame = {"v": wire.PROTOCOL, "kind": kind, "run": "r", "seq": 0, "body": {**body, name: draw(anything)}}
    if draw(st.booleans()):
        frame[draw(st.sampled_from(sorted(frame)))] = draw(anything)
    return json.dumps(frame).encode() + b"\n"


@st.composite
def damaged_streams(draw: st.DrawFn) -> bytes:
    """Frames as they should be, with some bytes taken out, put in or changed."""
    writer, every = wire.Writer(), [*from_broker.values(), *from_sandbox.values()]
    stream = bytearray(b"".join(writer.line(each) for each in draw(st.lists(st.one_of(every), max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(stream)
