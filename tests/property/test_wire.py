"""No matter what a peer sends, it is a message or a `WireError`, never any other error, in either direction."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox_runtime import wire
from tests.property.messages import almost_frames, damaged_streams, from_broker, from_sandbox, runs

# A machine that is busy with something else must not fail a property.
at_its_own_pace = settings(deadline=None)

Heard = list[tuple[str, wire.Message]]

# Each end with the parser that it uses: the supervisor has only the standard library.
ENDS = {
    "the broker's": (wire.FROM_SANDBOX, msgspec.json.decode),
    "the sandbox's": (wire.FROM_BROKER, json.loads),
}
every_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)

LONE_SURROGATE = (
    b'{"v":1,"kind":"stage","run":"","seq":0,"body":{"target":"file","path":"\\ud800","data":"","last":true}}\n'
)
FIELD_CALLED_SELF = b'{"v":1,"kind":"ping","run":"","seq":0,"body":{"nonce":1,"self":2}}\n'
TRUE_IS_NOT_ONE = b'{"v":1,"kind":"ping","run":"","seq":0,"body":{"nonce":true}}\n'
FALSE_IS_NOT_NOUGHT = b'{"v":1,"kind":"ping","run":"","seq":false,"body":{"nonce":1}}\n'
TRUE_IS_NO_VERSION = b'{"v":true,"kind":"ping","run":"","seq":0,"body":{"nonce":1}}\n'
RUN_IS_NO_TEXT = b'{"v":1,"kind":"ping","run":5,"seq":0,"body":{"nonce":1}}\n'
RUN_DOES_NOT_ENCODE = b'{"v":1,"kind":"ping","run":"\\udc00","seq":0,"body":{"nonce":1}}\n'
RUN_IS_LONG = b'{"v":1,"kind":"ping","run":"' + b"r" * 65 + b'","seq":0,"body":{"nonce":1}}\n'
ONE_MORE_FIELD = b'{"v":1,"kind":"ping","run":"","seq":0,"body":{"nonce":1},"more":1}\n'
TARGET_IS_A_NAME = b'{"v":2,"kind":"reach","run":"","seq":0,"body":{"targets":[["tcp","localhost",80]]}}\n'
DEEP = b"[" * 100_000 + b"\n"
DEEP_BODY = b'{"v":1,"kind":"ping","run":"","seq":0,"body":' + b'{"nonce":' * 9000 + b"1" + b"}" * 9000 + b"}\n"
LONG_NUMBER = b'{"v":1,"kind":"ping","run":"","seq":0,"body":{"nonce":' + b"9" * 100_000 + b"}}\n"
ENDLESS = b"x" * (wire.MAX_LINE_BYTES + 1)

BAD = {name: value for name, value in list(globals().items()) if name.isupper() and isinstance(value, bytes)}


def heard(end: tuple, pieces: Iterator[bytes] | list[bytes]) -> tuple[Heard, bool]:
    """What was understood, and whether it ended in a `WireError`. Any other error comes through."""
    kinds, loads = end
    reader, messages = wire.Reader(kinds, loads=loads), []
    try:
        for piece in pieces:
            messages += reader.feed(piece)
    except wire.WireError as error:
        failed = error
    else:
        return messages, False
    assert len(str(failed)) < 400, "quotes little of what a peer said"
    return messages, True


def cut(stream: bytes, lengths: list[int]) -> Iterator[bytes]:
    at = 0
    for length in lengths:
        yield stream[at : at + length]
        at += length
    yield stream[at:]


# --- round trip ---


def round_trip(end: tuple, messages: list[wire.Message], run: str) -> None:
    writer = wire.Writer()
    stream = b"".join(writer.line(message, run) for message in messages)
    assert stream.isascii()
    assert heard(end, [stream]) == ([(run, message) for message in messages], False)


@at_its_own_pace
@given(messages=st.lists(st.one_of(list(from_broker.values())), max_size=5), run=runs)
def test_what_the_broker_says_arrives(messages, run):
    round_trip(ENDS["the sandbox's"], messages, run)


@at_its_own_pace
@given(messages=st.lists(st.one_of(list(from_sandbox.values())), max_size=5), run=runs)
def test_what_a_sandbox_says_arrives(messages, run):
    round_trip(ENDS["the broker's"], messages, run)


def test_every_message_is_in_a_round_trip():
    assert set(from_broker) == {each.kind for each in wire.FROM_BROKER}
    assert set(from_sandbox) == {each.kind for each in wire.FROM_SANDBOX}


# --- garbage ---


@every_end
@at_its_own_pace
@given(data=st.binary(max_size=300), lengths=st.lists(st.integers(0, 40), max_size=9))
@example(data=b"\n", lengths=[])
@example(data=b"null\n", lengths=[])
def test_any_bytes_are_messages_or_a_wire_error(end, data, lengths):
    heard(end, cut(data, lengths))


@every_end
@at_its_own_pace
@given(frame=almost_frames())
def test_a_frame_with_anything_in_a_field_is_a_message_or_a_wire_error(end, frame):
    heard(end, [frame])


@every_end
@at_its_own_pace
@given(stream=damaged_streams())
def test_a_damaged_stream_is_messages_or_a_wire_error(end, stream):
    heard(end, [stream])


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@every_end
def test_these_are_refused(end, bad):
    kinds = frozenset({wire.Ping, wire.Stage})  # so that nothing is refused for its direction
    assert heard((kinds, end[1]), [bad]) == ([], True)


@every_end
def test_a_message_of_the_other_direction_is_refused(end):
    other = wire.Pong(nonce=1) if end[0] is wire.FROM_BROKER else wire.Ping(nonce=1)
    assert heard(end, [wire.Writer().line(other)]) == ([], True)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a/", "nul\0", "é" * 2049])
def test_no_path_leads_out_of_the_workspace(path):
    with pytest.raises(wire.WireError):
        wire.File(path=path, data=b"", last=True)


@pytest.mark.parametrize("spelling", ["aGk", "aGk==", "aGl=", " aGk=", "aGk=\n", "aG-_", "aGk=aGk=", "=", "é"])
def test_base64_has_one_spelling(spelling):
    frame = {"v": 1, "kind": "output", "run": "", "seq": 0, "body": {"stream": "stdout", "data": spelling}}
    assert heard(ENDS["the broker's"], [json.dumps(frame).encode() + b"\n"]) == ([], True)


# --- chunking ---


@every_end
@at_its_own_pace
@given(stream=damaged_streams(), lengths=st.lists(st.integers(0, 300), max_size=20))
def test_how_a_stream_is_cut_makes_no_difference(end, stream, lengths):
    whole, whole_failed = heard(end, [line + b"\n" for line in stream.split(b"\n")[:-1]])
    pieces, pieces_failed = heard(end, cut(stream, lengths))
    assert pieces_failed == whole_failed
    # A piece that holds the bad line may hold good ones before it: those are lost with it.
    assert pieces == whole[: len(pieces)]
    assert pieces_failed or pieces == whole


@every_end
@at_its_own_pace
@given(stream=damaged_streams())
def test_one_byte_at_a_time_makes_no_difference(end, stream):
    by_line = heard(end, [line + b"\n" for line in stream.split(b"\n")[:-1]])
    assert heard(end, [bytes([byte]) for byte in stream]) == by_line


@pytest.mark.parametrize("excess", [-1, 0])
def test_the_longest_line_is_the_same_in_one_piece_and_in_two(excess):
    line = b'"' + b"x" * (wire.MAX_LINE_BYTES + excess - 2) + b'"'
    in_one, in_two = wire.Lines(), wire.Lines()
    if excess < 0:
        assert in_one.feed(line + b"\n") == in_two.feed(line) + in_two.feed(b"\n") == [line]
        return
    with pytest.raises(wire.WireError, match=str(wire.MAX_LINE_BYTES)):
        in_one.feed(line + b"\n")
    with pytest.raises(wire.WireError, match=str(wire.MAX_LINE_BYTES)):
        in_two.feed(line)


def test_a_frame_that_would_be_too_long_is_not_written():
    env = {f"{number}" * 10: "\x01" * 16_000 for number in range(3)}
    order = wire.Run(args=[], env=env, last_line_interactive=True, timeout_ms=1, collect_ms=0)
    writer = wire.Writer()
    with pytest.raises(wire.WireError, match=f"at most {wire.MAX_LINE_BYTES}"):
        writer.line(order)
    assert b'"seq":0' in writer.line(wire.Ping(nonce=0)), "what was not written was not counted"
