"""Programs that take all they can get, with the limits as they are by default."""

from __future__ import annotations

import pytest

from tests.hostile.attack import answer_of, run
from tests.sandboxes import Sandboxes

SHORT_MS = 500
SLACK_MS = 10_000
"""What a supervisor may be late by when it shares two busy cores with a bomb."""


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        """
        for number in signal.valid_signals():
            attempt(signal.signal, number, signal.SIG_IGN) if number not in (signal.SIGKILL, signal.SIGSTOP) else None
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True: time.sleep(60)
        """,
        "def spin():\n    while True: pass\nchildren(8, spin); spin()",
        "def spin():\n    while True: pass\nfor _ in range(8): threading.Thread(target=spin).start()",
    ],
    ids=["endless loop", "ignores all signals", "eight busy processes", "eight busy threads"],
)
def test_it_is_killed_at_the_deadline(boxes: Sandboxes, source: str):
    result = run(boxes, source, timeout_ms=SHORT_MS)
    assert (result.exit_code, result.outcome.reason, result.outcome.signal) == (None, "timeout", "SIGKILL")
    assert SHORT_MS <= result.outcome.duration_ms < SHORT_MS + SLACK_MS


@pytest.mark.parametrize("detach", ["os.setsid()", "os.setpgid(0, 0)", "None"], ids=["setsid", "setpgid", "plain"])
def test_a_fork_bomb_starves_nobody_and_leaves_none(boxes: Sandboxes, detach: str):
    source = f"""
        while True:
            try:
                if os.fork() == 0:
                    {detach}
            except OSError:
                pass
    """
    result = run(boxes, source, timeout_ms=2000)
    assert result.outcome.reason in ("process_limit", "timeout")
    assert result.outcome.duration_ms < 2000 + SLACK_MS


def test_a_bomb_of_threads_is_refused_and_ends(boxes: Sandboxes):
    source = """
        print("so far", flush=True)
        for _ in range(10_000):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """
    result = run(boxes, source, timeout_ms=5000)
    # Where a cgroup counts, the run ends; elsewhere the kernel refuses the thread, and the program may go on.
    assert result.outcome.reason == "process_limit" or "can't start new thread" in result.stderr
    assert result.stdout == "so far\n"


def test_a_daemon_that_holds_stdout_delays_nothing_and_dies(boxes: Sandboxes):
    source = """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                while True: time.sleep(60)
            os._exit(0)
        print("done")
    """
    result = run(boxes, source)
    assert (result.stdout, result.exit_code) == ("done\n", 0)
    assert result.outcome.duration_ms < SLACK_MS


def test_processes_that_are_stopped_or_wait_for_a_dead_parent_die_too(boxes: Sandboxes):
    source = """
        for pid in children(20, signal.pause): os.kill(pid, signal.SIGSTOP)
        PR_SET_CHILD_SUBREAPER = 36
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        children(5, children, 5, signal.pause)
        os.kill(0, signal.SIGSTOP) if len(sys.argv) > 1 else print("done")
    """
    assert run(boxes, source).stdout == "done\n"
    assert run(boxes, source, "stop", timeout_ms=SHORT_MS).outcome.reason == "timeout"


def test_a_daemon_writes_nothing_once_files_are_collected(boxes: Sandboxes):
    source = """
        def write_on():
            os.setsid()
            with open("log", "ab", 0) as log:
                while True:
                    log.write(b"x")
        children(4, write_on)
        while not os.path.exists("log") or not os.path.getsize("log"):
            pass
    """
    for _ in range(3):
        result = run(boxes, source)
        assert result.exit_code == 0
        assert set(result.files) == {"log"}
        assert set(result.files["log"]) == {ord("x")}


def test_one_process_that_takes_too_much_gets_a_memory_error(boxes: Sandboxes):
    result = run(boxes, "print('so far', flush=True)\nkept = [bytearray(1 << 20) for _ in range(4096)]")
    assert (result.exit_code, result.outcome.reason) == (1, "exited")
    assert result.stdout == "so far\n"
    assert result.stderr.endswith("MemoryError\n")


def test_a_program_survives_its_memory_error(boxes: Sandboxes):
    source = """
        try:
            bytearray(10 << 30)
        except MemoryError:
            print("handled")
    """
    assert run(boxes, source).stdout == "handled\n"


ALLOCATE = """
def allocate():
    kept = bytearray(100 << 20)
    for page in range(0, len(kept), 4096):
        kept[page] = 1
    time.sleep(60)
"""


def test_many_processes_that_take_too_much_end_the_run(boxes: Sandboxes):
    result = run(boxes, "print('so far', flush=True)\n" + ALLOCATE + "children(16, allocate)\nos.wait()")
    assert (result.exit_code, result.outcome.reason, result.outcome.signal) == (137, "oom", "SIGKILL")
    assert result.stdout == "so far\n"


def test_memory_of_processes_that_hide_from_proc_counts(boxes: Sandboxes):
    hide = "PR_SET_DUMPABLE = 4\nlibc.prctl(PR_SET_DUMPABLE, 0)\n"
    result = run(boxes, hide + ALLOCATE + "children(16, allocate)\nos.wait()")
    assert (result.exit_code, result.outcome.reason) == (137, "oom")


def test_memory_that_processes_share_counts(boxes: Sandboxes):
    # Written by one and read by another, it is private to nobody, and no limit of a process knows it.
    source = """
        shared = mmap.mmap(-1, 700 << 20)
        def touch(change):
            for page in range(0, len(shared), 4096):
                shared[page] = change(shared[page])
        children(1, lambda: (touch(lambda was: was), time.sleep(60)))
        touch(lambda was: 1)
        time.sleep(60)
    """
    result = run(boxes, source, timeout_ms=20_000)
    assert (result.exit_code, result.outcome.reason) == (137, "oom")


def test_files_in_its_own_places_are_no_memory(boxes: Sandboxes):
    # 200 MiB of files that come and go beside 100 MiB of memory: more than a program has, if they were.
    source = """
        kept = b"x" * (100 << 20)
        for _ in range(8):
            for path, mib in (("/workspace/big", 90), ("/tmp/big", 55), ("/dev/shm/big", 55)):
                with open(path, "wb") as file:
                    for _ in range(mib): file.write(kept[:1 << 20])
            for path in ("/workspace/big", "/tmp/big", "/dev/shm/big"): os.remove(path)
        print("done")
    """
    result = run(boxes, source, timeout_ms=30_000)
    assert (result.stdout, result.exit_code, result.outcome.reason) == ("done\n", 0, "exited")


HELD_BY_THE_KERNEL = {
    "files without a name": """
        for number in range(10):
            file = os.memfd_create("held")
            for _ in range(95): os.write(file, bytes(1 << 20))
    """,
    "sockets": """
        def fill():
            for _ in range(500):
                for end in socket.socketpair():
                    end.setblocking(False); kept.append(end)
                    while attempt(end.send, bytes(65536)) == "done": pass
            time.sleep(60)
        kept = []
        children(20, fill); os.wait()
    """,
}


@pytest.mark.parametrize("holder", HELD_BY_THE_KERNEL)
def test_memory_that_the_kernel_holds_for_it_counts_where_a_cgroup_can_be_had(boxes: Sandboxes, holder: str):
    if "memory cgroup" in boxes.pool.backend.isolation().missing:
        pytest.skip("this machine gives no memory cgroup")
    result = run(boxes, HELD_BY_THE_KERNEL[holder], timeout_ms=30_000)
    assert (result.exit_code, result.outcome.reason) == (137, "oom")


def test_its_own_limits_cannot_be_raised(boxes: Sandboxes):
    source = """
        names = ("CORE", "MSGQUEUE", "MEMLOCK", "RTPRIO", "NICE", "NOFILE", "FSIZE", "DATA", *sys.argv[1:])
        def raise_(name, by):
            number = getattr(resource, f"RLIMIT_{name}", None) or {"RTPRIO": 14, "NICE": 13, "MSGQUEUE": 12}[name]
            soft, hard = resource.getrlimit(number)
            resource.setrlimit(number, (hard + by, hard + by))
        def outcome(name):
            try:
                return attempt(raise_, name, 1)
            except ValueError:  # how Python spells EPERM here
                return "EPERM"
        answer([sorted({outcome(name) for name in names}), attempt(os.nice, -1), attempt(os.nice, 0)])
    """
    # In pods the supervisor counts: the kernel would count a uid's processes in all pods of the node.
    counted = [] if boxes.are_pods else ["NPROC"]
    assert answer_of(boxes, source, *counted) == [["EPERM"], "EPERM", "done"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_fifty_megabytes_are_cut_and_the_program_goes_on(boxes: Sandboxes, stream: str):
    result = run(boxes, f"sys.{stream}.write('x' * 50_000_000)\nopen('after', 'w').write('went on')\nsys.exit(3)")
    said = {"stdout": result.stdout_bytes, "stderr": result.stderr_bytes}
    cut = {"stdout": result.outcome.stdout_truncated, "stderr": result.outcome.stderr_truncated}
    assert said == {"stdout": b"", "stderr": b""} | {stream: b"x" * 1_000_000}
    assert cut == {"stdout": False, "stderr": False} | {stream: True}
    assert (result.exit_code, result.files) == (3, {"after": b"went on"})


@pytest.mark.parametrize("descriptor", [1, 2], ids=["stdout", "stderr"])
def test_endless_output_is_killed(boxes: Sandboxes, descriptor: int):
    result = run(boxes, f"while True: os.write({descriptor}, b'x' * 65536)")
    assert (result.exit_code, result.outcome.reason, result.outcome.signal) == (137, "output_limit", "SIGKILL")
    assert len(result.stdout_bytes) + len(result.stderr_bytes) == 1_000_000


def test_output_is_passed_on_byte_by_byte(boxes: Sandboxes):
    data = bytes(range(256)) + b"\xed\xa0\x80\xff\xfe\0" + "\u2028\u2029\x85".encode()
    result = run(boxes, f"os.write(1, {data!r}); os.write(2, {data!r}[::-1])")
    assert (result.stdout_bytes, result.stderr_bytes) == (data, data[::-1])


THREADS = """
import threading
while True:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        ("bytearray(8 << 30)", "memory"),
        ("import numpy; numpy.ones(1 << 30)", "memory"),
        ("kept = [mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE) for _ in range(9)]", "memory"),
        (f"import threading; threading.stack_size(32 << 20){THREADS}", "memory"),
    ],
)
def test_memory_that_a_program_was_refused_is_named(boxes: Sandboxes, source: str, limit: str):
    result = run(boxes, f"import mmap, time\n{source}")
    assert (result.exit_code, result.outcome.reason, result.outcome.limits_hit) == (1, "exited", (limit,))


def test_processes_that_a_program_was_refused_are_named_or_end_it(boxes: Sandboxes):
    result = run(boxes, f"import threading, time; threading.stack_size(64 << 10){THREADS}")
    assert result.outcome.reason == "process_limit" or result.outcome.limits_hit == ("processes",)


@pytest.mark.parametrize(
    "source",
    [
        "class E(OSError):\n    errno = property(lambda self: print('asked'))\nraise E()",
        "class X:\n    __eq__ = lambda self, other: print('asked')\nraise RuntimeError(X())",
    ],
)
def test_what_a_program_raises_is_not_asked(boxes: Sandboxes, source: str):
    result = run(boxes, source)
    assert (result.exit_code, result.stdout, result.outcome.limits_hit) == (1, "", ())


def test_the_nodes_disks_are_not_flushed(boxes: Sandboxes):
    # An fsync that reaches the kernel fails for a descriptor that is none.
    source = """
        calls = {"fsync": os.fsync, "fdatasync": os.fdatasync}
        libc = ctypes.CDLL(None, use_errno=True)
        answer([attempt(call, 999) for call in calls.values()] + [libc.syncfs(999), libc.sync_file_range(999, 0, 0, 7)])
    """
    assert answer_of(boxes, source) == ["done", "done", 0, 0]


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
def test_a_full_disk_is_an_error_of_the_program_and_wiped(boxes: Sandboxes, folder: str):
    source = """
        os.chdir(sys.argv[1])
        print("so far", flush=True)
        for number in range(1000):
            with open(f"fill-{number}", "wb") as file:
                file.write(bytes(4 << 20))
    """
    result = run(boxes, source, folder)
    assert (result.exit_code, result.stdout, result.outcome.limits_hit) == (1, "so far\n", ("disk",))
    assert "[Errno 28] No space left on device" in result.stderr
    left = answer_of(boxes, "answer(os.listdir(sys.argv[1]))", folder)
    assert not any(name.startswith("fill") for name in left)


def test_a_terabyte_of_nothing_is_refused(boxes: Sandboxes):
    result = run(boxes, "open('huge', 'wb').truncate(1 << 40)")
    assert (result.exit_code, result.outcome.limits_hit) == (1, ("file_size",))
    assert "[Errno 27] File too large" in result.stderr
    assert result.files == {"huge": b""}


def test_ten_thousand_files_are_bounded(boxes: Sandboxes):
    result = run(boxes, "for number in range(10_000): open(f'{number:05}', 'w').write('x')")
    assert (result.exit_code, len(result.files)) == (0, 1000)
    assert (result.outcome.files_skipped_count, len(result.outcome.files_skipped)) == (9000, 20)
    assert {skipped.reason for skipped in result.outcome.files_skipped} == {"too_many"}


def test_folders_three_thousand_deep_are_bounded(boxes: Sandboxes):
    source = """
        open("top", "w").write("x")
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        open("bottom", "w").write("x")
    """
    result = run(boxes, source)
    assert (result.exit_code, set(result.files)) == (0, {"top"})
    assert [skipped.reason for skipped in result.outcome.files_skipped] == ["too_deep"]


def test_all_files_of_the_table_can_be_opened_and_no_more(boxes: Sandboxes):
    source = """
        kept = []
        try:
            while True:
                kept.append(open("/dev/null"))
        except OSError as error:
            answer([errno.errorcode[error.errno], len(kept) > 900])
            raise
    """
    result = run(boxes, source)
    assert (result.stdout, result.exit_code) == ('["EMFILE", true]\n', 1)
    assert result.outcome.limits_hit == ("open_files",)
