"""What waits for a slow reader: nothing is lost, streams keep their order, and memory keeps its bounds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_runtime import wire
from sandbox_runtime.outbox import Channel, Outbox

RUN = "7f"
END = wire.Pong(nonce=1)


class Reader:
    """The other end of the channel, which reads when it is told to."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        os.set_blocking(self.writing, False)
        os.set_blocking(self._reading, False)
        self._reader = wire.Reader(wire.FROM_SANDBOX)
        self.heard: list[tuple[str, wire.Message]] = []

    def read(self) -> None:
        try:
            self.heard += self._reader.feed(os.read(self._reading, 1 << 20))
        except BlockingIOError:
            return

    def read_all(self, outbox: Outbox) -> None:
        while not outbox.send():
            self.read()
        self.read()

    def printed(self, stream: str) -> bytes:
        outputs = [message for _, message in self.heard if isinstance(message, wire.Output)]
        return b"".join(each.data for each in outputs if each.stream == stream)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self.writing)


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def test_what_the_channel_takes_is_sent_as_it_comes(reader: Reader):
    outbox = Outbox(Channel(-1, reader.writing))
    for stream, data in (("stdout", b"one"), ("stderr", b"two"), ("stdout", b"three")):
        outbox.output(stream, data, RUN)
        assert outbox.send()
        reader.read()
    outputs = [(RUN, wire.Output(stream=stream, data=data)) for stream, data in
               (("stdout", b"one"), ("stderr", b"two"), ("stdout", b"three"))]  # fmt: skip
    assert reader.heard == outputs
    assert outbox.held_bytes() == 0


def test_what_a_stream_says_between_two_sendings_is_one_frame(reader: Reader):
    outbox = Outbox(Channel(-1, reader.writing))
    for stream, data in (("stdout", b"1"), ("stdout", b"\n"), ("stderr", b"two"), ("stdout", b"3"), ("stdout", b"\n")):
        outbox.output(stream, data, RUN)
    outbox.say(END)
    reader.read_all(outbox)
    said = [(message.stream, message.data) for _, message in reader.heard if isinstance(message, wire.Output)]
    assert said == [("stdout", b"1\n"), ("stderr", b"two"), ("stdout", b"3\n")]


def test_long_output_is_cut_into_frames_that_fit(reader: Reader):
    outbox = Outbox(Channel(-1, reader.writing))
    outbox.output("stdout", b"x" * (2 * wire.MAX_CHUNK_BYTES + 1), RUN)
    reader.read_all(outbox)
    assert [len(message.data) for _, message in reader.heard if isinstance(message, wire.Output)] == [
        wire.MAX_CHUNK_BYTES,
        wire.MAX_CHUNK_BYTES,
        1,
    ]


def test_bytes_that_wait_take_their_own_size_and_not_a_frame_each(reader: Reader):
    outbox = Outbox(Channel(-1, reader.writing))
    count = 100_000
    for number in range(count):
        outbox.output(wire.STREAMS[number % 2], b"x", RUN)
        outbox.send()
    assert outbox.held_bytes() < 500_000
    reader.read_all(outbox)
    assert reader.printed("stdout") == reader.printed("stderr") == b"x" * (count // 2)


def test_other_frames_come_after_the_output_that_waits(reader: Reader):
    outbox = Outbox(Channel(-1, reader.writing))
    for _ in range(20):
        outbox.output("stdout", b"x" * wire.MAX_CHUNK_BYTES, RUN)
        outbox.send()
    outbox.output("stderr", b"last", RUN)
    outbox.say(END)
    reader.read_all(outbox)
    assert reader.heard[-1] == ("", END)
    assert reader.printed("stdout") == b"x" * (20 * wire.MAX_CHUNK_BYTES)
    assert reader.printed("stderr") == b"last"


def test_a_reader_that_is_gone_is_an_error(reader: Reader):
    outbox = Outbox(Channel(-1, reader.writing))
    os.close(reader._reading)
    outbox.say(END)
    with pytest.raises(BrokenPipeError):
        outbox.send()
    reader._reading = os.dup(reader.writing)


steps = st.lists(
    st.tuples(st.sampled_from([*wire.STREAMS, *wire.STREAMS, "read", "send", "say"]), st.integers(1, 200_000)),
    max_size=30,
)


@given(steps=steps)
@settings(deadline=None, max_examples=50)
def test_whatever_is_put_in_comes_out_once_and_in_order(steps: list[tuple[str, int]]):
    reader = Reader()
    outbox = Outbox(Channel(-1, reader.writing))
    put = {"stdout": bytearray(), "stderr": bytearray()}
    said = 0
    for number, (step, length) in enumerate(steps):
        if step == "read":
            reader.read()
        elif step == "send":
            outbox.send()
        elif step == "say":
            outbox.say(wire.Pong(nonce=said))
            said += 1
        else:
            put[step] += bytes([number]) * length
            outbox.output(step, bytes([number]) * length, RUN)
    reader.read_all(outbox)
    reader.close()
    assert {stream: reader.printed(stream) for stream in put} == put
    assert [message for _, message in reader.heard if isinstance(message, wire.Pong)] == [
        wire.Pong(nonce=number) for number in range(said)
    ]
    assert all(message.data for _, message in reader.heard if isinstance(message, wire.Output))
