"""What a sandbox may say in a run: every budget to the byte, every frame out of place."""

from __future__ import annotations

import msgspec
import pytest

from pool.errors import RemoteProtocolError
from pool.settings import RunLimits
from pool.transcript import Transcript
from sandbox_runtime import wire
from tests.fakes.supervisor import outcome

LIMITS = msgspec.structs.replace(RunLimits(), output_bytes=10, file_bytes=8, returned_files=3, returned_bytes=12)


def heard(*messages: wire.Message) -> Transcript:
    transcript = Transcript("r1", LIMITS)
    for message in messages:
        transcript.hear("r1", message)
    return transcript


def output(data: bytes, stream: str = "stdout") -> wire.Output:
    return wire.Output(stream=stream, data=data)


def file(path: str, data: bytes, *, last: bool = True) -> wire.File:
    return wire.File(path=path, data=data, last=last)


def test_a_run_is_output_then_files_then_an_outcome():
    end = outcome(exit_code=3)
    transcript = heard(
        output(b"12345"),
        output(b"1234567890", "stderr"),
        output(b"67890"),
        file("a", b"1234", last=False),
        file("a", b"5678"),
        file("b/c", b"1234"),
        file("empty", b""),
        end,
    )
    assert transcript.end == end


def test_a_run_may_say_nothing_but_its_outcome():
    assert heard(outcome()).end == outcome()


def test_a_refusal_stands_alone():
    refusal = wire.Refused(path="big.csv", resource="disk")
    assert heard(refusal).end == refusal


@pytest.mark.parametrize(
    ("messages", "numbers"),
    [
        ([output(b"1234567890"), output(b"1")], "11 bytes on stdout, limit 10"),
        ([file("a", b"12345678", last=False), file("a", b"9")], "9 bytes in a file, limit 8"),
        ([file("a", b"12345678"), file("b", b"12345")], "13 bytes in files, limit 12"),
        ([file("a", b""), file("b", b""), file("c", b""), file("d", b"")], "4 files, limit 3"),
        ([output(b"")], "empty piece"),
        ([file("a", b"", last=False)], "empty piece"),
        ([file("a", b""), output(b"1")], "output after the first file"),
        ([file("a", b"1", last=False), file("b", b"")], "before the last one has ended"),
        ([file("a", b"1", last=False), outcome()], "before the last file has ended"),
        ([file("a", b""), file("a", b"")], "the same file twice"),
        ([outcome(), outcome()], "after the run's end"),
        ([outcome(), output(b"1")], "after the run's end"),
        ([wire.Refused(path="a", resource="disk"), outcome()], "after the run's end"),
        ([output(b"1"), wire.Refused(path="a", resource="disk")], "refusal"),
        ([file("a", b""), wire.Refused(path="a", resource="disk")], "refusal"),
        ([wire.Pong(nonce=1)], "a pong frame during a run"),
        ([outcome(reason="cancelled", exit_code=None)], "nobody cancelled"),
        ([outcome(reason="cancelled", exit_code=None, duration_ms=0)], "nobody cancelled"),
        ([outcome(reason="timeout")], "exit code 0 for a run that ended by timeout"),
        ([outcome(reason="oom", exit_code=None)], "exit code None"),
    ],
)
def test_what_is_too_much_or_out_of_place_is_the_sandboxs_fault(messages, numbers):
    with pytest.raises(RemoteProtocolError, match=numbers):
        heard(*messages)


def test_a_frame_of_another_run_is_the_sandboxs_fault():
    with pytest.raises(RemoteProtocolError, match="another run"):
        Transcript("r1", LIMITS).hear("r2", output(b"1"))
