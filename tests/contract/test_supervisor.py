"""The supervisor as a broker meets it: a real one, with a real zygote, over the wire alone."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from pool import RunLimits
from sandbox_runtime import VERSION, wire
from tests.contract import dialogue
from tests.contract.dialogue import Dialogue, Speaking, files_of, outcome_of, pieces, soon, speaking, stage
from tests.local_backends import RUN, code, kill, printed, start

LIMITS = RunLimits(workspace_bytes=8 * 2**20, inodes=200, output_bytes=1_000_000)
CHUNK = wire.MAX_CHUNK_BYTES
SAY_IT_RUNS = "import os\nos.write(1, b'it runs\\n')\n"


@pytest.fixture(scope="module")
def broker() -> Iterator[Speaking]:
    with speaking(LIMITS) as speaks:
        yield speaks


def run(speaks: Dialogue, source: str, **changed: Any) -> list[wire.Message]:
    speaks.say(code(source), start(**changed))
    return speaks.answer()


def is_ended(speaks: Dialogue) -> bool:
    """The supervisor has left, and the sandbox with it, by itself."""
    return speaks.lost.wait(dialogue.PATIENCE_SECONDS)


# --- hello, pings ---


def test_hello_is_said_first_and_unasked(broker: Speaking):
    with broker.new() as speaks:
        heard = speaks.hear()
        assert heard is not None
        run_id, hello = heard
    assert run_id == ""
    assert isinstance(hello, wire.Hello)
    assert (hello.protocol, hello.runtime, hello.runs, hello.preloaded) == (wire.PROTOCOL, VERSION, 0, [])
    assert hello.limits["workspace_bytes"] == LIMITS.workspace_bytes


def test_hello_names_every_step_of_the_lock_down_that_this_machine_can_do(broker: Speaking):
    with broker.new() as speaks:
        hello = speaks.hello()
    expected = set(broker.backend.isolation().lockdown)
    assert expected >= {"seccomp", "rlimits", "user_namespace", "no_capabilities"}
    assert set(hello.lockdown) == expected
    assert set(hello.missing) & expected == set()


def test_pings_are_answered(broker: Speaking):
    with broker.greeted() as speaks:
        assert all(speaks.pong(nonce) for nonce in (1, 0, 2**53 - 1))


def test_pings_are_answered_between_inputs_and_while_a_program_runs(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(code(SAY_IT_RUNS + "while True: pass"))
        assert speaks.pong(1)
        speaks.say(start())
        assert speaks.hear() == (RUN, wire.Output(stream="stdout", data=b"it runs\n"))
        assert speaks.pong(2)


def test_pings_are_answered_after_the_outcome(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        assert speaks.pong(3)


# --- out of place ---


def frames_out_of_place() -> dict[str, list[tuple[str, wire.Message]]]:
    one, two = stage("file", b"1", path="one", last=False), stage("file", b"2", path="two", last=False)
    done = stage("file", b"", path="one")
    program = code("print(1)")
    told: dict[str, list[wire.Message]] = {
        "a run without a program": [start()],
        "a run with an open file": [program, one, start()],
        "a run with an open program": [stage("code", b"pri", last=False), start()],
        "a file within a file": [one, two],
        "the program within a file": [one, program],
        "an input within the program": [stage("code", b"pri", last=False), stage("stdin", b"x")],
        "a program twice": [program, program],
        "standard input twice": [stage("stdin", b"1"), stage("stdin", b"2")],
        "a file twice": [stage("file", b"1", path="one"), stage("file", b"2", path="one")],
        "a file where the program is": [program, stage("file", b"2", path="__main__.py")],
        "a file below a file": [stage("file", b"1", path="one"), stage("file", b"2", path="one/two")],
        "a file where a folder is": [stage("file", b"1", path="one/two"), stage("file", b"2", path="one")],
        "a file without a name": [stage("file", b"1")],
        "a program with a name": [stage("code", b"1", path="one")],
        "a name that no file can have": [stage("file", b"1", path="n" * 256)],
        "an input after the start": [program, start(), done],
        "a second start": [program, start(), start()],
    }
    frames: dict[str, list[tuple[str, wire.Message]]] = {
        name: [(RUN, message) for message in messages] for name, messages in told.items()
    }
    frames["an input of no run"] = [("", program)]
    frames["a start of no run"] = [(RUN, program), ("", start())]
    frames["a start of another run"] = [(RUN, program), ("another", start())]
    frames["an input of another run"] = [(RUN, program), ("another", one)]
    frames["another run"] = [(RUN, program), (RUN, start()), ("another", program)]
    return frames


@pytest.mark.parametrize("frames", frames_out_of_place().values(), ids=frames_out_of_place())
def test_a_frame_out_of_place_ends_the_sandbox(broker: Speaking, frames: list[tuple[str, wire.Message]]):
    with broker.greeted() as speaks:
        for run_id, message in frames:
            speaks.say(message, run=run_id)
        assert not any(isinstance(each, wire.Refused | wire.File) for each in speaks.rest())
        assert is_ended(speaks)


@pytest.mark.parametrize(
    "message", [wire.Pong(nonce=1), wire.Refused(path="", resource="disk"), wire.Output(stream="stdout", data=b"x")]
)
def test_what_only_a_sandbox_may_say_ends_it(broker: Speaking, message: wire.Message):
    with broker.greeted() as speaks:
        speaks.say(message)
        assert speaks.rest() == []


GARBAGE = {
    "no JSON": b"hello\n",
    "not ASCII": b"\xff\xfe\x00\n",
    "an empty line": b"\n",
    "another kind": b'{"v":3,"kind":"open","run":"","seq":0,"body":{}}\n',
    "another version": wire.Writer().line(wire.Ping(nonce=1)).replace(b'"v":3', b'"v":9'),
    "another number": wire.Writer().line(wire.Ping(nonce=1)).replace(b'"seq":0', b'"seq":1'),
    "a line without end": b"{" * (wire.MAX_LINE_BYTES + 1),
    "a deep line": b"[" * 100_000 + b"\n",
    "a good frame, then garbage": wire.Writer().line(wire.Ping(nonce=1)) + b"garbage\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_ends_the_sandbox_without_an_answer(broker: Speaking, data: bytes):
    with broker.greeted() as speaks:
        speaks.say_raw(data)
        assert speaks.rest() == []
        assert is_ended(speaks)


def test_the_same_number_twice_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        line = speaks.writer.line(wire.Ping(nonce=1))
        speaks.say_raw(line + line)
        assert speaks.rest() == []


# --- the channel's end ---


@pytest.mark.parametrize("end", [Dialogue.end, Dialogue.end_saying], ids=["both ways", "half-closed"])
def test_the_end_of_the_channel_ends_an_idle_sandbox(broker: Speaking, end: Any):
    with broker.greeted() as speaks:
        end(speaks)
        assert is_ended(speaks)


@pytest.mark.parametrize("end", [Dialogue.end, Dialogue.end_saying], ids=["both ways", "half-closed"])
def test_the_end_of_the_channel_kills_the_program(broker: Speaking, end: Any):
    with broker.greeted() as speaks:
        speaks.say(code(SAY_IT_RUNS + "if os.fork() == 0: os.setsid()\nwhile True: pass"), start())
        speaks.hear()
        program = dialogue.guests()
        end(speaks)
        assert is_ended(speaks)
        assert all(soon(lambda pid=pid: dialogue.is_gone(pid)) for pid in program)


def test_the_end_of_the_channel_in_the_middle_of_an_input_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(stage("file", b"half of it", path="one", last=False))
        speaks.end()
        assert is_ended(speaks)


@pytest.mark.parametrize("who", [dialogue.zygote, dialogue.supervisor, lambda: dialogue.guests()[0]])
def test_the_death_of_any_of_its_processes_ends_an_idle_sandbox(broker: Speaking, who: Any):
    with broker.greeted() as speaks:
        kill(who(), signal.SIGKILL)
        assert speaks.rest() == []
        assert is_ended(speaks)


# --- inputs ---


@pytest.mark.parametrize("size", [1, 7, CHUNK - 1, CHUNK])
def test_inputs_arrive_in_pieces_of_any_size(broker: Speaking, size: int):
    data = bytes(range(256)) * (12 if size < CHUNK - 1 else 700)
    source = "import hashlib, sys\n" + "# padding\n" * 20
    source += "inputs = open('in/put', 'rb').read(), sys.stdin.buffer.read()\n"
    source += "print(*[hashlib.md5(data).hexdigest() for data in inputs])"
    with broker.greeted() as speaks:
        speaks.say(*pieces("file", data, size, path="in/put"), *pieces("stdin", data, size))
        speaks.say(*pieces("code", source.encode(), size), start())
        answer = speaks.answer()
    digest = hashlib.md5(data).hexdigest()
    assert printed(answer).decode().split() == [digest, digest]
    assert files_of(answer) == {}


def test_inputs_end_with_an_empty_piece_or_are_empty(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(stage("file", b"", path="empty"), stage("file", b"half", path="ended", last=False))
        speaks.say(stage("file", b"", path="ended"), stage("stdin", b""))
        answer = run(speaks, "import sys\nprint([open(name).read() for name in ('empty', 'ended')], sys.stdin.read())")
    assert printed(answer) == b"['', 'half'] \n"


def test_inputs_in_frames_that_arrive_byte_by_byte(broker: Speaking):
    with broker.greeted() as speaks:
        lines = b"".join(speaks.writer.line(each, RUN) for each in (code("print('slowly')"), start()))
        for at in range(len(lines)):
            speaks.say_raw(lines[at : at + 1])
        assert printed(speaks.answer()) == b"slowly\n"


def too_much() -> dict[str, tuple[list[wire.Stage], wire.Refused]]:
    heap = [stage("file", b"x" * CHUNK, path="heap", last=False)] * (LIMITS.workspace_bytes // CHUNK + 1)
    many = [stage("file", b"", path=f"folder/{number}") for number in range(LIMITS.inodes)]
    program = [stage("code", b"#" * CHUNK, last=False)] * (LIMITS.workspace_bytes // CHUNK + 1)
    return {
        "bytes": (heap, wire.Refused(path="heap", resource="disk")),
        "files": (many, wire.Refused(path="folder/198", resource="inodes")),
        "program": (program, wire.Refused(path="", resource="disk")),
    }


@pytest.mark.parametrize(("inputs", "refusal"), too_much().values(), ids=too_much())
def test_more_than_fits_is_refused_and_nothing_runs(broker: Speaking, inputs: list[wire.Stage], refusal: wire.Refused):
    with broker.greeted() as speaks:
        speaks.say(*inputs)
        assert speaks.hear() == (RUN, refusal)
        # What was under way when it was refused is no offence.
        speaks.say(code("print(1)"), start())
        assert speaks.pong(1)
        assert len(dialogue.guests()) == 1


def test_standard_input_that_nobody_reads_keeps_nobody_waiting(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(*pieces("stdin", b"x" * 4_000_000, CHUNK))
        answer = run(speaks, "print('done')")
    assert printed(answer) == b"done\n"
    assert outcome_of(answer).exit_code == 0


@pytest.mark.parametrize("closing", ["os.close(0)", "sys.stdin.close()", "os.read(0, 10); os.close(0)"])
def test_standard_input_may_be_closed_at_any_time(broker: Speaking, closing: str):
    with broker.greeted() as speaks:
        speaks.say(*pieces("stdin", b"x" * 1_000_000, CHUNK))
        answer = run(speaks, f"import os, sys\n{closing}\nprint('done')")
    assert printed(answer) == b"done\n"


# --- one run ---


def test_frames_of_a_run_come_in_their_order(broker: Speaking):
    with broker.greeted() as speaks:
        answer = run(speaks, "import sys\nprint(1)\nopen('a', 'w').write('a')\nprint(2, file=sys.stderr)")
    order = {wire.Output: 0, wire.File: 1, wire.Outcome: 2}
    places = [order[type(each)] for each in answer]
    assert places == sorted(places)
    assert (printed(answer), printed(answer, "stderr"), files_of(answer)) == (b"1\n", b"2\n", {"a": b"a"})


@pytest.mark.parametrize("leaves", ["", "open('made', 'w').write('x')\n"], ids=["no files", "a file"])
def test_nothing_is_said_after_the_outcome_whatever_lives_on(broker: Speaking, leaves: str):
    daemons = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        while True:
            os.write(1, b"x" * 512)
            time.sleep(0.0002)
"""
    with broker.greeted() as speaks:
        answer = run(speaks, leaves + daemons)
        assert outcome_of(answer).exit_code == 0
        assert soon(lambda: dialogue.guests() == [])
        assert speaks.pong(1)


def test_a_second_run_is_refused_by_ending_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        speaks.say(code("print(2)"), start())
        assert speaks.rest() == []
        assert is_ended(speaks)


# --- cancelling ---


def test_a_cancelled_run_has_an_outcome_with_what_it_has_made(broker: Speaking):
    source = "open('made', 'w').write('x')\n" + SAY_IT_RUNS + "os.fork()\nwhile True: pass"
    with broker.greeted() as speaks:
        speaks.say(code(source), start())
        assert speaks.hear() == (RUN, wire.Output(stream="stdout", data=b"it runs\n"))
        speaks.say(wire.Cancel())
        answer = speaks.answer()
        assert soon(lambda: dialogue.guests() == [])
    ended = outcome_of(answer)
    assert (ended.reason, ended.exit_code, ended.signal) == ("cancelled", None, "SIGKILL")
    assert files_of(answer) == {"made": b"x"}


@pytest.mark.parametrize("cancelled", ["", RUN, "another"])
def test_cancelling_before_a_run_is_harmless(broker: Speaking, cancelled: str):
    with broker.greeted() as speaks:
        speaks.say(wire.Cancel(), run=cancelled)
        speaks.say(code("print('runs all the same')"))
        speaks.say(wire.Cancel(), run=cancelled)
        speaks.say(start())
        answer = speaks.answer()
    assert printed(answer) == b"runs all the same\n"
    assert outcome_of(answer).reason == "exited"


def test_cancelling_another_run_or_one_that_has_ended_is_harmless(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(code("print(input())"))
        speaks.say(stage("stdin", b"in"), start())
        speaks.say(wire.Cancel(), run="another")
        answer = speaks.answer()
        speaks.say(wire.Cancel(), wire.Cancel())
        assert speaks.pong(1)
    assert outcome_of(answer).reason == "exited"


def test_a_run_that_is_cancelled_in_the_breath_of_its_start_has_one_outcome(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(code("while True: pass"), start(), wire.Cancel(), wire.Cancel())
        assert outcome_of(speaks.answer()).reason == "cancelled"
        assert speaks.pong(1)
