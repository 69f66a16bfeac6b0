"""A program in a session, frame by frame: whose turn it is, and what has no place."""

from __future__ import annotations

import pytest

from sandbox_runtime import wire
from tests.contract import dialogue
from tests.contract.calling import Calling, opened
from tests.contract.dialogue import Speaking, pieces, stage
from tests.fakes.supervisor import outcome

RUN = wire.Run(args=[], env={}, last_line_interactive=False, timeout_ms=10_000, collect_ms=5_000)


NEVER_BEGUN = outcome(exit_code=None, reason="cancelled", duration_ms=0)


def begin(session: Calling, code: str, run: str = "program") -> str:
    session.speaks.say(stage("code", code.encode()), RUN, run=run)
    return run


def told(session: Calling, run: str) -> tuple[wire.Outcome, dict[str, bytes]]:
    """Its outcome, and its files."""
    heard: list[wire.Message] = []
    while not heard or not isinstance(heard[-1], wire.Outcome):
        frame = session.speaks.hear()
        assert frame is not None
        assert frame[0] == run
        heard.append(frame[1])
    return dialogue.outcome_of(heard), dialogue.files_of(heard)


def test_it_waits_for_its_turn(session: Calling):
    first = session.begin("sleep 0.2; echo first > order")
    second = begin(session, "open('order', 'a').write('second\\n')")
    third = session.begin("cat order")
    assert session.end(first)[0].exit_code == 0
    assert told(session, second)[1] == {"order": b"first\nsecond\n"}
    assert session.end(third)[1] == "first\nsecond\n"


def test_what_it_gets_is_nowhere_before_its_turn(session: Calling):
    first = session.begin("sleep 0.3; ls -A; ls -l /proc/*/fd 2>/dev/null | grep -c deleted")
    session.speaks.say(stage("file", b"x", path="given"), run="program")
    second = begin(session, "import os; print(sorted(os.listdir()))")
    assert session.end(first)[1] == "0\n"
    assert session.end(second)[1] == "['__main__.py', 'given']\n"


def test_one_that_waits_and_is_cancelled_never_begins(session: Calling):
    first = session.begin("sleep 0.3")
    second = begin(session, "open('ran', 'w')")
    session.speaks.say(wire.Cancel(), run=second)
    assert told(session, second)[0].reason == "cancelled"
    assert session.end(first)[0].exit_code == 0
    assert session.bash("ls -A") == (0, "")


LATE = wire.Run(args=[], env={}, last_line_interactive=False, timeout_ms=10_000, collect_ms=100)


def test_calls_that_have_not_begun_in_their_time_to_wait_never_begin(session: Calling):
    first = session.begin("sleep 1000")
    command = session.begin("touch ran", wait_ms=50)
    assert session.end(command)[0] == NEVER_BEGUN
    session.speaks.say(stage("code", b"open('ran', 'w')"), LATE, run="program")
    assert told(session, "program")[0] == NEVER_BEGUN
    session.speaks.say(wire.Cancel(), run=first)
    assert session.end(first)[0].reason == "cancelled"
    assert session.bash("ls -A") == (0, "")


def test_one_that_is_cancelled_half_said_leaves_nothing(session: Calling):
    session.speaks.say(stage("code", b"open('ran', 'w')"), stage("file", b"x", path="given", last=False), run="half")
    session.speaks.say(wire.Cancel(), run="half")
    assert told(session, "half")[0].reason == "cancelled"
    assert session.bash("ls -A") == (0, "")


def test_one_that_is_cancelled_ends_with_what_it_started(session: Calling):
    session.bash("sleep 1000 & echo $! > before")
    run = begin(session, "import os, time; os.system('sleep 1001 &'); os.write(1, b'begun\\n'); time.sleep(1000)")
    assert session.speaks.hear() == (run, wire.Output(stream="stdout", data=b"begun\n"))
    session.speaks.say(wire.Cancel(), run=run)
    ended, files = told(session, run)
    assert (ended.reason, files) == ("cancelled", {})
    assert session.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 100[01]'") == (0, "sleep 1000\n")


def test_files_that_nobody_wants_any_more_are_not_told_to_their_end(session: Calling):
    run = begin(session, "open('big', 'wb').write(bytes(3 << 20))")
    first = session.speaks.hear()
    session.speaks.say(wire.Cancel(), run=run)
    ended, files = told(session, run)
    assert first is not None
    assert (ended.reason, len(files["big"]) < 3 << 20) == ("exited", True)
    assert session.bash("echo on") == (0, "on\n")


def test_it_is_alive_while_files_are_told(session: Calling):
    run = begin(session, "open('big', 'wb').write(bytes(3 << 20))")
    assert isinstance((session.speaks.hear() or ("", None))[1], wire.File)
    session.speaks.say(wire.Ping(nonce=5), run="")
    kinds: list[str] = []
    while not kinds or kinds[-1] != "outcome":
        heard = session.speaks.hear()
        assert heard is not None
        kinds.append(heard[1].kind)
    assert 0 < kinds.index("pong") < len(kinds) - 1, run


def test_of_a_refused_program_nothing_more_is_heard(session: Calling):
    full = pieces("file", bytes(5 << 20), 40_000, path="big")
    session.speaks.say(stage("code", b"open('ran', 'w')"), *full, RUN, run="refused")
    assert session.speaks.hear() == ("refused", wire.Refused(path="big", resource="disk"))
    assert session.bash("ls -A") == (0, "")


def test_a_program_that_is_refused_in_its_turn_lets_the_next_one_begin(session: Calling):
    first = session.begin("sleep 0.2; mkdir given")
    session.speaks.say(stage("file", b"x", path="given"), run="refused")
    begin(session, "open('ran', 'w')", run="refused")
    last = session.begin("ls -A")
    assert session.end(first)[0].exit_code == 0
    assert session.speaks.hear() == ("refused", wire.Refused(path="given", resource="place"))
    assert session.end(last)[1] == "given\n"


CODE, COMMAND = stage("code", b"1"), stage("command", b"true")
SHELL = wire.Shell(timeout_ms=1000, wait_ms=1000)


@pytest.mark.parametrize(
    "said",
    [
        [("a", RUN)],
        [("a", stage("file", b"", path="x")), ("a", RUN)],
        [("a", CODE), ("a", CODE)],
        [("a", CODE), ("a", SHELL)],
        [("a", COMMAND), ("a", RUN)],
        [("a", COMMAND), ("a", CODE)],
        [("a", CODE), ("a", COMMAND)],
        [("a", CODE), ("b", RUN)],
        [("a", stage("code", b"1", last=False)), ("a", RUN)],
        [("", CODE), ("", RUN)],
    ],
    ids=lambda said: ", ".join(f"{run}:{message.kind}" for run, message in said),
)
def test_what_is_out_of_place_ends_the_channel(broker: Speaking, said: list[tuple[str, wire.Message]]):
    with opened(broker) as session:
        for run, message in said:
            session.speaks.say(message, run=run)
        assert session.speaks.rest() == []
        assert session.speaks.lost.wait(dialogue.PATIENCE_SECONDS)
