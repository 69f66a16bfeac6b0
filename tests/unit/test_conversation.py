"""One conversation with a fake supervisor that speaks the real wire; time is virtual."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

from pool.conversation import Conversation
from pool.errors import InputsRefused, LocalProtocolError, RemoteProtocolError, SandboxLost, SandboxStartFailed
from pool.hearing import OUTCOME_GRACE_SECONDS, SINK_SECONDS
from pool.program import Outcome, Program, Reason, SkippedFile, StagedFile
from pool.settings import RunLimits
from sandbox_runtime import wire
from tests.fakes import faults
from tests.fakes.clock import in_virtual_time
from tests.fakes.sinks import FailingSink, KeepingSink, SlowSink
from tests.fakes.supervisor import FakeSupervisor, outcome

LIMITS = RunLimits()


def soon(seconds: float = 5.0) -> float:
    return anyio.current_time() + seconds


async def greeted(supervisor: FakeSupervisor, limits: RunLimits = LIMITS) -> Conversation:
    conversation = Conversation(supervisor.channel, limits)
    supervisor.start()
    await conversation.hello(soon())
    return conversation


async def ran(supervisor: FakeSupervisor, program: Program, *files: StagedFile) -> tuple[Outcome, KeepingSink]:
    conversation, sink = await greeted(supervisor), KeepingSink()
    return await conversation.run(program, files, sink, soon(10.0)), sink


def staged(path: str, *pieces: bytes) -> StagedFile:
    async def read() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return StagedFile(path=path, read=read)


# --- hello and pings ---


@in_virtual_time
async def test_hello_comes_first():
    supervisor = FakeSupervisor()
    conversation = Conversation(supervisor.channel, LIMITS)
    supervisor.start()
    hello = await conversation.hello(soon())
    assert hello.runtime == "fake"


@in_virtual_time
async def test_a_runtime_of_another_age_is_named_with_what_to_do():
    with pytest.raises(SandboxStartFailed, match=r"protocol 99, spoken are \(2, 3\); rebuild it") as failed:
        await greeted(faults.SpeaksAnotherProtocol())
    assert failed.value.reason == "protocol"


@in_virtual_time
async def test_a_runtime_of_the_release_before_is_spoken_to_in_its_own_version():
    assert wire.SPOKEN == (faults.OLDER, wire.PROTOCOL)
    supervisor, sink = faults.SpeaksTheVersionBefore(), KeepingSink()
    conversation = await greeted(supervisor)
    await conversation.probe(soon())
    for number in range(2):
        end = await conversation.run(Program(code=f"print({number})"), (), sink, soon(10.0))
        assert (end.exit_code, end.reason) == (0, Reason.EXITED)
        assert (await conversation.clean(soon())).findings == []
    assert sink.streams["stdout"] == b"0\n1\n"
    assert (supervisor.pings, len(supervisor.programs)) == (1, 2)


@pytest.mark.parametrize(
    "supervisor",
    [
        faults.ClaimsRunsInHello,
        faults.SaysHelloTwice,
        faults.SpeaksBeforeHello,
        faults.SaysHelloInARun,
    ],
)
@in_virtual_time
async def test_a_wrong_hello_is_the_sandboxs_fault(supervisor):
    with pytest.raises(RemoteProtocolError):
        await greeted(supervisor())


@in_virtual_time
async def test_no_hello_is_a_lost_sandbox_at_the_deadline():
    began = anyio.current_time()
    with pytest.raises(SandboxLost, match="hello did not come"):
        await greeted(faults.NeverSaysHello())
    assert anyio.current_time() - began == pytest.approx(5.0)


@in_virtual_time
async def test_a_probe_is_answered_again_and_again():
    supervisor = FakeSupervisor()
    conversation = await greeted(supervisor)
    for _ in range(3):
        await conversation.probe(soon())
    assert supervisor.pings == 3


@in_virtual_time
async def test_a_probe_without_an_answer_is_a_lost_sandbox():
    conversation = await greeted(faults.DoesNotAnswerPings())
    with pytest.raises(SandboxLost, match="pong did not come"):
        await conversation.probe(soon())


@in_virtual_time
async def test_a_probe_with_another_answer_is_the_sandboxs_fault():
    conversation = await greeted(faults.AnswersAnotherPing())
    with pytest.raises(RemoteProtocolError, match="pong"):
        await conversation.probe(soon())


# --- a run ---


@in_virtual_time
async def test_a_program_runs_with_its_input_and_its_files():
    code = 'print(input(), open("in.txt").read())\nwith open("out.txt", "w") as out:\n    out.write("made")'
    end, sink = await ran(FakeSupervisor(), Program(code=code, stdin="typed\n"), staged("in.txt", b"gi", b"", b"ven"))
    assert (end.exit_code, end.reason) == (0, Reason.EXITED)
    assert sink.streams == {"stdout": b"typed given\n", "stderr": b""}
    assert sink.files == {"out.txt": b"made"}
    assert sink.finished == ["out.txt"]


@in_virtual_time
async def test_a_program_that_fails_is_an_outcome():
    end, _ = await ran(FakeSupervisor(), Program(code="raise SystemExit(3)"))
    assert (end.exit_code, end.timed_out) == (3, False)


@in_virtual_time
async def test_every_field_of_an_outcome_is_passed_on():
    said = outcome(
        exit_code=None,
        reason="timeout",
        signal="SIGKILL",
        duration_ms=2001,
        collect_ms=7,
        limits_hit=["disk"],
        stdout_truncated=True,
        files_skipped=[["pipe", "not_regular"]],
        files_skipped_count=21,
    )
    end, _ = await ran(faults.saying(said)(), Program(code="while True: pass"))
    assert end == Outcome(
        exit_code=None,
        reason=Reason.TIMEOUT,
        signal="SIGKILL",
        duration_ms=2001,
        limits_hit=("disk",),
        stdout_truncated=True,
        stderr_truncated=False,
        files_skipped=(SkippedFile("pipe", "not_regular"),),
        files_skipped_count=21,
        stage_ms=end.stage_ms,
        run_ms=end.run_ms,
        collect_ms=7.0,
    )
    assert end.stage_ms > 0.0
    assert end.run_ms >= 0.0
    assert end.timed_out


@in_virtual_time
async def test_a_small_program_goes_out_in_one_piece():
    supervisor = FakeSupervisor()
    await ran(supervisor, Program(code="print(1)", stdin="x"), staged("a", b"1"), staged("b", b"2"))
    assert len(supervisor.channel.sent) == 1


@in_virtual_time
async def test_a_big_file_goes_out_in_bounded_pieces_and_arrives_whole():
    supervisor = FakeSupervisor()
    content = bytes(range(256)) * 2048
    echo = 'with open("b", "w") as out:\n    out.write(str(len(open("a").read())))'
    _, sink = await ran(supervisor, Program(code=echo), staged("a", content[:100_001].hex().encode(), b""))
    assert sink.files == {"b": b"200002"}
    assert max(map(len, supervisor.channel.sent)) < 3 * 64 * 1024


@pytest.mark.parametrize("size", [0, 1, wire.MAX_CHUNK_BYTES, wire.MAX_CHUNK_BYTES + 1, 3 * wire.MAX_CHUNK_BYTES])
@in_virtual_time
async def test_sizes_at_the_border_of_a_chunk_arrive_whole(size):
    supervisor = FakeSupervisor()
    code = "#" * size
    await ran(supervisor, Program(code=code), staged("f", b"x" * size))
    assert supervisor.staged("code") == code.encode()
    assert supervisor._staged["file", "f"] == b"x" * size


@in_virtual_time
async def test_frames_may_come_in_any_pieces():
    end, sink = await ran(faults.SpeaksInBytes(), Program(code="print('whole')"))
    assert end.exit_code == 0
    assert sink.streams["stdout"] == b"whole\n"


@in_virtual_time
async def test_an_outcome_counts_although_the_stream_ends_after_it():
    end, _ = await ran(faults.EndsRightAfterItsOutcome(), Program(code=""))
    assert end.exit_code == 0


@in_virtual_time
async def test_inputs_that_do_not_fit_are_the_callers_doing():
    supervisor = faults.saying(wire.Refused(path="big.csv", resource="disk"))()
    with pytest.raises(InputsRefused, match=r"big.csv does not fit into the workspace \(disk\)"):
        await ran(supervisor, Program(code=""))


# --- going wrong ---


@pytest.mark.parametrize("supervisor", faults.MISBEHAVIOURS.values(), ids=faults.MISBEHAVIOURS)
@in_virtual_time
async def test_misbehaviour_is_the_sandboxs_fault(supervisor):
    with pytest.raises(RemoteProtocolError):
        await ran(supervisor(), Program(code="print(1)"))


@in_virtual_time
async def test_output_beyond_the_limit_is_the_sandboxs_fault():
    limits = msgspec.structs.replace(LIMITS, output_bytes=3)
    conversation = await greeted(FakeSupervisor(), limits)
    with pytest.raises(RemoteProtocolError, match="4 bytes on stdout, limit 3"):
        await conversation.run(Program(code="print(123)"), (), KeepingSink(), soon())


@pytest.mark.parametrize("supervisor", [faults.EndsInTheMiddleOfAFrame, faults.EndsWithoutAnOutcome])
@in_virtual_time
async def test_a_stream_that_ends_before_the_outcome_is_a_lost_sandbox(supervisor):
    with pytest.raises(SandboxLost, match="ended"):
        await ran(supervisor(), Program(code="print(1)"))


@pytest.mark.parametrize(
    ("supervisor", "text"),
    [(faults.FallsSilent, "fell silent"), (faults.NeverStops, "talked on")],
)
@in_virtual_time
async def test_no_outcome_by_the_deadline_is_a_lost_sandbox(supervisor, text):
    began = anyio.current_time()
    with pytest.raises(SandboxLost, match=text):
        await ran(supervisor(), Program(code="print(1)"))
    assert anyio.current_time() - began == pytest.approx(10.0, abs=0.02)


@in_virtual_time
async def test_a_sandbox_that_does_not_take_the_program_is_lost_before_it_could_run():
    began = anyio.current_time()
    supervisor = faults.StopsReading()
    with pytest.raises(SandboxLost, match="did not take the program"):
        await ran(supervisor, Program(code="print(1)", timeout_ms=2000))
    assert anyio.current_time() - began == pytest.approx(10.0 - 2.0 - OUTCOME_GRACE_SECONDS)


@in_virtual_time
async def test_what_is_left_of_the_time_goes_to_collection():
    supervisor = FakeSupervisor()
    asked: list[wire.Run] = []
    supervisor.run = lambda run, message: asked.append(message)  # type: ignore[method-assign]  # says nothing
    with pytest.raises(SandboxLost):
        await ran(supervisor, Program(code="", timeout_ms=2000))
    assert [each.collect_ms for each in asked] == [7000]


@in_virtual_time
async def test_where_little_is_left_beside_the_run_staging_still_has_half_of_it():
    conversation = await greeted(FakeSupervisor())
    end = await conversation.run(Program(code="", timeout_ms=2000), (), KeepingSink(), soon(2.0 + 0.5))
    assert end.exit_code == 0


@in_virtual_time
async def test_a_slow_sink_is_not_the_sandboxs_fault():
    sink = SlowSink(seconds=SINK_SECONDS - 1.0)
    conversation = await greeted(FakeSupervisor())
    end = await conversation.run(Program(code="print(1)"), (), sink, soon())
    assert end.exit_code == 0
    assert sink.streams["stdout"] == b"1\n"


@pytest.mark.parametrize("seconds", [0.5, 2.0, 1000.0])
@in_virtual_time
async def test_a_sink_that_trickles_does_not_hold_the_sandbox_for_ever(seconds):
    """A megabyte in small frames, each taken slowly: hours, if each were forgiven."""
    piece = wire.Output(stream="stdout", data=b"x")
    conversation = await greeted(faults.saying(*[piece] * 2000, outcome())())
    began = anyio.current_time()
    with pytest.raises(SandboxLost, match="taken too slowly"):
        await conversation.run(Program(code=""), (), SlowSink(seconds), soon(11.0))
    assert anyio.current_time() - began == pytest.approx(11.0 + SINK_SECONDS, abs=0.1)


@in_virtual_time
async def test_a_sink_that_fails_is_the_callers_error():
    conversation = await greeted(FakeSupervisor())
    with pytest.raises(OSError, match="No space left"):
        await conversation.run(Program(code="print(1)"), (), FailingSink(), soon())


@pytest.mark.parametrize(
    ("program", "file"),
    [
        (Program(code="print('\ud800')"), "a"),
        (Program(code="", stdin="\udfff"), "a"),
        (Program(code="", args=("x" * 20_000,)), "a"),
        (Program(code=""), "../a"),
        (Program(code="", env={"A": "x" * 16_000, "B": "\x01" * 16_000, "C": "\x01" * 16_000}), "a"),
    ],
)
@in_virtual_time
async def test_what_the_wire_cannot_say_is_our_fault(program, file):
    with pytest.raises(LocalProtocolError):
        await ran(FakeSupervisor(), program, staged(file, b"1"))


@in_virtual_time
async def test_a_file_that_is_being_read_is_closed_when_the_run_is_cancelled():
    closed: list[str] = []

    async def read() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * wire.MAX_CHUNK_BYTES
        finally:
            closed.append("closed")

    supervisor = faults.StopsReading()
    conversation = await greeted(supervisor)
    with anyio.move_on_after(1.0):
        await conversation.run(Program(code=""), [StagedFile(path="a", read=read)], KeepingSink(), soon(60.0))
    assert closed == ["closed"]
