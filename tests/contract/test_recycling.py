"""Programs that follow each other in one sandbox, over the wire alone: the second is told as the first is."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from pool import RunLimits
from sandbox_runtime import wire
from tests.contract import dialogue
from tests.contract.dialogue import Dialogue, Speaking, files_of, outcome_of, pieces, speaking, stage
from tests.local_backends import RUN, code, kill, local_backend, printed, start

MIB = 2**20
CHUNK = wire.MAX_CHUNK_BYTES
LIMITS = RunLimits(workspace_bytes=8 * MIB, inodes=200, memory_bytes=64 * MIB, output_bytes=100_000, processes=32)


@pytest.fixture(scope="module")
def broker() -> Iterator[Speaking]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            local_backend(limits=LIMITS, seconds=600.0, changed={"cleans": True})
        ) as backend,
    ):
        yield Speaking(backend, portal)


def run(speaks: Dialogue, source: str, *inputs: wire.Stage, **changed: Any) -> list[wire.Message]:
    speaks.say(*inputs, code(source), start(**changed))
    return speaks.answer()


def cleaned(speaks: Dialogue) -> wire.Cleaned:
    speaks.say(wire.Clean(), run="")
    heard = speaks.hear()
    assert heard is not None, "it ended in place of being cleaned"
    assert heard[0] == ""
    assert isinstance(heard[1], wire.Cleaned)
    return heard[1]


def is_ended(speaks: Dialogue) -> bool:
    return speaks.lost.wait(dialogue.PATIENCE_SECONDS)


# --- as the first, so the others


SHOWN = """
import os, sys
print(sys.stdin.read(), sys.argv[1:], os.environ.get("MINE"), open("in/put").read(), sorted(os.listdir()))
print("to stderr", file=sys.stderr)
os.makedirs("out")
open("out/put", "w").write("made")
open("in/put", "w").write("changed")
sys.exit(7)
"""


def test_each_is_told_as_the_first(broker: Speaking):
    with broker.greeted() as speaks:
        for number in range(4):
            words = f"words {number}"
            inputs = [*pieces("file", b"data", 3, path="in/put"), *pieces("stdin", words.encode(), 4)]
            answer = run(speaks, SHOWN, *inputs, args=[words], env={"MINE": words})
            expected = f"{words} ['{words}'] {words} data ['__main__.py', 'in']\n"
            assert printed(answer).decode() == expected
            assert printed(answer, "stderr") == b"to stderr\n"
            assert files_of(answer) == {"out/put": b"made", "in/put": b"changed"}
            ended = outcome_of(answer)
            assert (ended.exit_code, ended.reason, ended.signal, ended.limits_hit) == (7, "exited", None, [])
            assert cleaned(speaks).findings == []


def test_output_streams_as_it_is_made(broker: Speaking):
    source = "import os, time\nos.write(1, b'before')\ntime.sleep(0.3)\nos.write(1, b'after')"
    with broker.greeted() as speaks:
        for _ in range(3):
            heard = [each.data for each in run(speaks, source) if isinstance(each, wire.Output)]
            assert heard == [b"before", b"after"]
            assert cleaned(speaks).findings == []


def test_a_cancelled_run_is_a_finding(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        assert cleaned(speaks).findings == []
        speaks.say(code("import os\nos.write(1, b'before')\nwhile True: pass"), start())
        assert speaks.hear() == (RUN, wire.Output(stream="stdout", data=b"before"))
        assert speaks.pong(1)
        speaks.say(wire.Cancel())
        assert outcome_of(speaks.answer()).reason == "cancelled"
        assert cleaned(speaks).findings == ["the run ended by cancelled"]


ENDS = {
    "a status": ("raise SystemExit(3)", 3),
    "an exception": ("1 / 0", 1),
    "a syntax error": ("def", 1),
    "an exit that skips all handlers": ("import os; os._exit(9)", 9),
    "a program that becomes another": ("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 4'])", 4),
    "closed streams": ("import os\nfor n in (0, 1, 2): os.close(n)", 0),
    "threads that are left": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        0,
    ),
    "too much output": ("print('x' * 200_000)", 0),
    "a full disk": ("try: open('big', 'wb').write(bytes(9 << 20))\nexcept OSError: print('full')", 0),
    "all names used": ("try:\n  for n in range(999): open(str(n), 'w')\nexcept OSError: print('full')", 0),
    "the workspace closed": ("import os; os.chmod('.', 0)", 0),
    "the workspace full of folders": ("import os\nfor n in range(99): os.mkdir('d'); os.chdir('d')", 0),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_uneventful_run_is_followed_by_another(broker: Speaking, name: str):
    source, status = ENDS[name]
    with broker.greeted() as speaks:
        for _ in range(2):
            ended = outcome_of(run(speaks, source))
            assert (ended.exit_code, ended.reason) == (status, "exited")
            assert cleaned(speaks).findings == []
        assert printed(run(speaks, "import os; print(os.listdir())")) == b"['__main__.py']\n"


# --- what makes findings


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("while True: pass", "timeout"),
        ("import os; os.kill(os.getpid(), 9)", "signal"),
        ("import os; os.abort()", "signal"),
    ],
)
def test_a_run_that_was_ended_is_a_finding(broker: Speaking, source: str, reason: str):
    with broker.greeted() as speaks:
        assert outcome_of(run(speaks, source, timeout_ms=300)).reason == reason
        assert cleaned(speaks).findings == [f"the run ended by {reason}"]


def test_a_run_that_ran_out_of_memory_is_a_finding(broker: Speaking):
    # In several processes, for the kernel's own limit is one process's and makes a MemoryError.
    source = "import os\nfor _ in range(4):\n  if os.fork() == 0: break\nheld = bytearray(b'x') * (40 << 20)\nos.wait()"
    source += "\nwhile True: pass"
    with broker.greeted() as speaks:
        assert outcome_of(run(speaks, source)).reason == "oom"
        assert cleaned(speaks).findings == ["the run ended by oom"]


def test_a_fork_bomb_is_a_finding(broker: Speaking):
    source = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    with broker.greeted() as speaks:
        reason = outcome_of(run(speaks, source, timeout_ms=5000)).reason
        assert reason in ("process_limit", "timeout")
        assert cleaned(speaks).findings == [f"the run ended by {reason}"]


SAYS_ONE_THING = """
import os, resource
control = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
os.write(control, b"D0 ")
"""


@pytest.mark.parametrize(
    ("does", "status"), [("os._exit(5)", 5), ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV)]
)
def test_a_process_that_ends_otherwise_than_it_said_is_a_finding_or_was_killed_before(
    broker: Speaking, does: str, status: int
):
    with broker.greeted() as speaks:
        assert outcome_of(run(speaks, SAYS_ONE_THING + does)).exit_code == 0
        # We kill it as soon as it has said so; where it was quicker, its status shows.
        assert cleaned(speaks).findings in ([], [f"its process ended with {status}, and it said 0"])


def test_a_process_that_ends_otherwise_than_it_said_is_a_finding(broker: Speaking):
    # stopped before it speaks: it has ended otherwise before anybody hears what it said
    source = SAYS_ONE_THING.replace('b"D0 "', 'b"D3 "') + "os._exit(5)"
    with broker.greeted() as speaks:
        speaks.say(code("import os\nos.write(1, b'.')\nos.read(0, 1)\n" + source), start())
        findings = cleaned(speaks).findings if outcome_of(speaks.answer()).exit_code == 3 else None
    assert findings in ([], ["its process ended with 5, and it said 3"])


def as_its_owner(pid: int, act: Callable[[int], object]) -> None:
    """Act on a process as any other of its uid may: what a guest could do if it were not for its lock-down."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")]
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setresuid(*[int(line.split()[1])] * 3)
            act(pid)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("who", [dialogue.zygote, dialogue.supervisor])
def test_what_somebody_changed_from_outside_is_found(broker: Speaking, who: Any):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        as_its_owner(who(), lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 3))
        as_its_owner(who(), lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (99, 99)))
        name = "zygote" if who is dialogue.zygote else "supervisor"
        found = [finding.removesuffix(" is not as it was") for finding in cleaned(speaks).findings]
        assert found == [f"the {fact} of the {name}" for fact in ("limits", "niceness", "scheduling")]


# --- who lives on


DAEMON = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN) if number < 32 else None
        os.write(1, b"lives\\n")
        while True:
            time.sleep(0.01)
            open("/dev/shm/again", "w").close()
    os._exit(0)
os.wait()
"""


def test_a_daemon_does_not_outlive_the_cleaning(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(code(DAEMON), start())
        outcome_of(speaks.answer())
        assert cleaned(speaks).findings == []
        assert len(dialogue.guests()) == 1  # the child that was armed
        look = "import os; print(os.listdir('/dev/shm'), [int(p) for p in os.listdir('/proc') if p.isdigit()] )"
        said = printed(run(speaks, look)).decode()
        assert said.startswith("[] [1, 2, ")
        assert said.count(",") == 2


def test_a_crowd_does_not_outlive_the_cleaning(broker: Speaking):
    source = "import os, time\nfor _ in range(20):\n  if os.fork() == 0: time.sleep(99)\n"
    with broker.greeted() as speaks:
        run(speaks, source)
        assert cleaned(speaks).findings == []
        assert len(dialogue.guests()) == 1


# --- evidence, counts


def test_the_evidence_counts_what_was_wiped_and_looked_at(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "for name in 'abc': open(name, 'w')")
        first = cleaned(speaks)
        run(speaks, "print(1)")
        second = cleaned(speaks)
    assert first.evidence["wiped"] - second.evidence["wiped"] == 3
    assert first.evidence["places"] == 3
    assert first.evidence["facts"] == second.evidence["facts"] > 40
    assert (first.runs, second.runs) == (1, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="this machine gives no look at descriptors of others to who is not root")
def test_no_descriptor_of_a_run_stays_open(broker: Speaking):
    with broker.greeted() as speaks:
        counts = set()
        for _ in range(6):
            run(speaks, "print(1)", *pieces("file", b"x" * 1000, 100, path="one"))
            assert cleaned(speaks).findings == []
            counts.add(tuple(len(os.listdir(f"/proc/{who()}/fd")) for who in (dialogue.supervisor, dialogue.zygote)))
        assert len(counts) == 1


def test_neither_supervisor_nor_zygote_grows(broker: Speaking):
    inputs = pieces("file", b"x" * 400_000, CHUNK, path="one")
    with broker.greeted() as speaks:
        sizes = []
        for _ in range(60):
            run(speaks, "print('x' * 50_000)\nopen('two', 'w').write('y' * 50_000)", *inputs)
            assert cleaned(speaks).findings == []
            sizes.append([dialogue.resident_bytes(who()) for who in (dialogue.supervisor, dialogue.zygote)])
    assert all(last - early < MIB for early, last in zip(sizes[20], sizes[-1], strict=True))


# --- out of place


def test_a_cleaning_before_any_run_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(wire.Clean(), run="")
        assert speaks.rest() == []
        assert is_ended(speaks)


def test_a_cleaning_while_a_program_runs_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(code("while True: pass"), start())
        speaks.say(wire.Clean(), run="")
        assert not any(isinstance(each, wire.Cleaned | wire.Outcome) for each in speaks.rest())
        assert is_ended(speaks)


def test_a_cleaning_while_inputs_come_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(stage("file", b"half", path="one", last=False))
        speaks.say(wire.Clean(), run="")
        assert speaks.rest() == []
        assert is_ended(speaks)


def test_a_second_cleaning_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        assert cleaned(speaks).findings == []
        speaks.say(wire.Clean(), run="")
        assert speaks.rest() == []
        assert is_ended(speaks)


def test_a_program_before_the_cleaning_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        speaks.say(code("print(2)"), start())
        assert speaks.rest() == []
        assert is_ended(speaks)


@pytest.mark.parametrize("frames", [[start()], [code("print(2)"), start()], [stage("file", b"1", path="new")]])
def test_nothing_follows_a_finding(broker: Speaking, frames: list[wire.Message]):
    with broker.greeted() as speaks:
        run(speaks, "while True: pass", timeout_ms=50)
        assert cleaned(speaks).findings != []
        assert speaks.pong(1)
        speaks.say(*frames)
        assert speaks.rest() == []
        assert is_ended(speaks)


def test_a_sandbox_for_one_run_is_not_cleaned():
    with speaking(LIMITS) as broker, broker.greeted() as speaks:
        run(speaks, "print(1)")
        speaks.say(wire.Clean(), run="")
        assert speaks.rest() == []
        assert is_ended(speaks)


# --- ends


def test_the_channels_end_after_a_cleaning_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        assert cleaned(speaks).findings == []
        speaks.end()
        assert is_ended(speaks)


@pytest.mark.parametrize("who", [dialogue.zygote, dialogue.supervisor, lambda: dialogue.guests()[0]])
def test_the_death_of_any_of_its_processes_after_a_cleaning_ends_the_sandbox(broker: Speaking, who: Any):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        assert cleaned(speaks).findings == []
        kill(who(), signal.SIGKILL)
        assert speaks.rest() == []
        assert is_ended(speaks)


def test_the_zygotes_death_in_a_cleaning_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        run(speaks, "print(1)")
        zygote = dialogue.zygote()
        kill(zygote, signal.SIGSTOP)
        speaks.say(wire.Clean(), run="")
        kill(zygote)
        assert not any(isinstance(each, wire.Cleaned) and not each.findings for each in speaks.rest())
        assert is_ended(speaks)
