"""A program that is run in a session: as anywhere else, but for what the session holds, and what stays of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pool import InputsRefused, LocalProtocolError, Reason, RunLimits
from tests.held_sessions import HeldSession, held_session
from tests.places import Place
from tests.sandboxes import Sandboxes

LIMITS = RunLimits(workspace_bytes=16 * 2**20, inodes=2000, output_bytes=1000, returned_files=10, loopback=1)


@pytest.fixture(scope="module")
def boxes(place: Place) -> Iterator[Sandboxes]:
    with place.sandboxes(limits=LIMITS) as boxes:
        yield boxes


@pytest.fixture(scope="module")
def session(boxes: Sandboxes) -> Iterator[HeldSession]:
    """One for the whole file: what a test leaves in it is nothing that the next one minds."""
    with held_session(boxes) as session:
        yield session


@pytest.fixture(autouse=True)
def an_empty_workspace(session: HeldSession) -> None:
    session.bash("shopt -s dotglob nullglob; chmod -R u+rwx *; rm -rf *")


# --- as anywhere ---


def test_it_is_the_program_of_its_workspace(session: HeldSession):
    source = """if __name__ == "__main__":
        import os, sys
        print(__file__, os.getcwd(), sys.argv, os.environ["NAME"], os.getuid() == os.stat("in/data").st_uid)
        print(input(), open("in/data").read(), file=sys.stderr)
        sys.exit(3)
    """
    result = session.run(source, stdin="typed\n", args=["a"], env={"NAME": "value"}, files={"in/data": b"given"})
    assert result.stdout == "/workspace/__main__.py /workspace ['/workspace/__main__.py', 'a'] value True\n"
    assert (result.stderr, result.exit_code, result.files) == ("typed given\n", 3, {})


def test_its_last_expression_is_echoed_where_that_is_asked_for(session: HeldSession):
    assert session.run("6 * 7", echo=True).stdout == "42\n"
    assert session.run("6 * 7").stdout == ""


def test_without_input_it_is_at_its_end(session: HeldSession):
    assert "EOFError" in session.run("input()").stderr


def test_a_program_that_is_none_is_told_by_its_own_interpreter(session: HeldSession):
    result = session.run("x = 1\ndef")
    assert result.exit_code == 1
    assert 'File "/workspace/__main__.py", line 2' in result.stderr


def test_output_is_cut_at_the_limit(session: HeldSession):
    result = session.run("print('x' * 5000)")
    assert (len(result.stdout), result.outcome.stdout_truncated, result.exit_code) == (1000, True, 0)


def test_too_much_memory_ends_all_that_lives_and_the_session_goes_on(session: HeldSession):
    session.bash("sleep 1002 &")
    hog = "import os, time; os.fork(); kept = b'x' * (150 << 20); time.sleep(9)"
    result = session.run(hog)
    assert (result.exit_code, result.outcome.reason) == (137, Reason.OOM)
    assert session.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 100[2]'").stdout == "0\n"


def test_limits_that_it_met_are_named(session: HeldSession):
    result = session.run("open('big', 'wb').write(bytes(20 << 20))")
    assert (result.exit_code, result.outcome.limits_hit) == (1, ("disk",))


# --- what the session holds ---


def test_it_finds_what_commands_have_left_and_they_find_what_it_leaves(session: HeldSession):
    session.bash("echo of-bash > file; mkdir lib; echo 'word = \"imported\"' > lib/own.py")
    source = "import lib.own; print(open('file').read() + lib.own.word); open('made', 'w').write('of-python')"
    assert session.run(source).stdout == "of-bash\nimported\n"
    assert session.bash("cat made").stdout == "of-python"


def test_what_earlier_calls_have_left_running_goes_on(session: HeldSession):
    session.bash("sleep 1000 & echo $! > pid")
    assert session.run("import os; os.kill(int(open('pid').read()), 0); print('alive')").stdout == "alive\n"
    assert session.bash("kill $(cat pid) && echo ended").stdout == "ended\n"


def test_what_it_leaves_running_goes_on(session: HeldSession):
    source = "import subprocess; print(subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL).pid)"
    assert session.bash(f"kill {session.run(source).stdout}").exit_code == 0


def test_a_timeout_ends_its_processes_and_no_others(session: HeldSession):
    session.bash("sleep 1000 & echo $! > before")
    source = """
import os, subprocess, time
for words in (["sleep", "1001"], ["setsid", "sleep", "1001"]):
    subprocess.Popen(words)
if not os.fork():
    os.execvp("sleep", ["sleep", "1001"])
print("begun", flush=True)
time.sleep(1000)
"""
    result = session.run(source, timeout_ms=2000)
    assert (result.stdout, result.exit_code, result.outcome.timed_out) == ("begun\n", None, True)
    assert session.bash("kill -0 $(cat before) && echo alive").stdout == "alive\n"
    assert session.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 100[1]'").stdout == "0\n"
    session.bash("kill $(cat before)")


# --- its files ---


def test_what_is_staged_replaces_what_is_there(session: HeldSession):
    session.bash("echo old > a; ln -s /etc/hostname b; mkdir -p d; echo kept > d/kept; ln a hard")
    result = session.run("print(*map(open, ('a', 'b', 'd/new')), sep='')", files={"a": b"1", "b": b"2", "d/new": b"3"})
    assert result.exit_code == 0
    assert session.bash("cat a b d/new d/kept hard; stat -c %F b").stdout == "123kept\nold\nregular file\n"


def test_what_it_made_or_changed_comes_back_and_what_was_there_does_not(session: HeldSession):
    session.bash("echo 1 > same; echo 1 > changed; echo 1 > renamed; echo 1 > read; mkdir -p a/b")
    source = """
import os
open("changed", "a").write("2")
open("a/b/made", "w").write("3")
os.rename("renamed", "other")
open("read").read()
open("given-changed", "a").write("5")
os.utime("given")
"""
    result = session.run(source, files={"given": b"4", "given-changed": b"4"})
    assert result.files == {"changed": b"1\n2", "a/b/made": b"3", "other": b"1\n", "given-changed": b"45"}
    assert session.run("pass").files == {}


def test_files_come_back_of_a_program_that_failed_or_was_ended(session: HeldSession):
    assert session.run("open('a', 'w').write('1'); raise SystemExit(2)").files == {"a": b"1"}
    assert session.run("open('b', 'w').write('2'); import time; time.sleep(60)", timeout_ms=3000).files == {"b": b"2"}


def test_the_program_itself_stays_and_does_not_come_back(session: HeldSession):
    assert session.run("print(1)").files == {}
    assert session.bash("cat __main__.py").stdout == "print(1)"


def test_a_file_with_many_names_comes_back_once(session: HeldSession):
    result = session.run("import os; open('a', 'w').write('x'); os.link('a', 'b')")
    assert result.files == {"a": b"x"}
    assert [(each.path, each.reason) for each in result.outcome.files_skipped] == [("b", "hard_link")]


def test_no_more_files_come_back_than_of_any_run(session: HeldSession):
    result = session.run("for n in range(12): open(f'{n:02}', 'w').write('x')")
    assert (len(result.files), result.outcome.files_skipped_count) == (10, 2)
    assert {each.reason for each in result.outcome.files_skipped} == {"too_many"}


def test_large_files_go_in_and_come_out(session: HeldSession):
    data = bytes(range(256)) * (12 << 10)
    result = session.run("open('out', 'wb').write(open('in', 'rb').read()[::-1])", files={"in": data})
    assert result.files == {"out": data[::-1]}


def test_a_thousand_inputs_go_in(session: HeldSession):
    result = session.run("import os; print(len(os.listdir('in')))", files={f"in/{n}": b"x" for n in range(1000)})
    assert (result.stdout, result.files) == ("1000\n", {})


# --- what has no place ---


@pytest.mark.parametrize(
    ("before", "path"),
    [
        ("mkdir taken", "taken"),
        ("echo x > taken", "taken/below"),
        ("ln -s /tmp taken", "taken/below"),
        ("mkdir real; ln -s real taken", "taken/below"),
        ("mkdir taken; chmod 0 taken", "taken/below"),
    ],
)
def test_an_input_without_a_place_is_refused_and_nothing_runs(session: HeldSession, before: str, path: str):
    session.bash(before)
    with pytest.raises(InputsRefused, match=f"{path} has no place in the session's workspace"):
        session.run("open('ran', 'w')", files={path: b"x"})
    assert session.bash("ls -a /tmp/below ran 2>/dev/null").stdout == ""


def test_inputs_that_do_not_fit_leave_nothing_and_the_next_call_is_as_ever(session: HeldSession):
    with pytest.raises(InputsRefused, match=r"b does not fit into the workspace \(disk\)"):
        session.run("open('ran', 'w')", files={"a": b"1", "b": bytes(17 << 20), "c": b"1"})
    assert session.bash("ls -A").stdout == ""
    assert session.run("print('on')").stdout == "on\n"


def test_a_program_that_cannot_be_said_is_our_fault_and_harms_nothing(session: HeldSession):
    with pytest.raises(LocalProtocolError):
        session.run("'\ud800'")
    assert session.run("print('on')").stdout == "on\n"
