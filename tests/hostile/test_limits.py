"""Each limit of a run, met: it ends the run, or shows up in the answer, with the output and the files so far."""

from __future__ import annotations

import textwrap

import pytest

from pool import RunLimits
from tests.hostile.attack import answer_of, run
from tests.sandboxes import Sandboxes

MIB = 2**20
SO_FAR = "os.write(1, b'so far\\n')\nopen('made', 'w').write('so far')\n"


@pytest.fixture(scope="module")
def limits() -> RunLimits:
    """Small ones, so that meeting them takes no time."""
    return RunLimits(
        memory_bytes=96 * MIB,
        output_bytes=10_000,
        output_kill_bytes=MIB,
        processes=32,
        open_files=64,
        file_bytes=2 * MIB,
        workspace_bytes=4 * MIB,
        tmp_bytes=2 * MIB,
        shm_bytes=MIB,
        inodes=200,
        returned_files=5,
        returned_bytes=3 * MIB,
    )


ENDS = {
    "wall clock": ("while True: pass", (None, "timeout", "SIGKILL")),
    "memory of many": (
        "def take():\n    kept = b'x' * (40 << 20)\n    time.sleep(60)\nchildren(8, take)\nos.wait()",
        (137, "oom", "SIGKILL"),
    ),
    "output": ("while True: os.write(1, b'x' * 4096)", (137, "output_limit", "SIGKILL")),
    "processes": ("while True: attempt(children, 1, signal.pause)", (137, "process_limit", "SIGKILL")),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_limit_that_ends_the_run_leaves_what_was_made_so_far(boxes: Sandboxes, name: str):
    code, end = ENDS[name]
    result = run(boxes, SO_FAR + code, timeout_ms=1000 if name == "wall clock" else 30_000)
    assert (result.exit_code, result.outcome.reason, result.outcome.signal) == end
    assert result.stdout.startswith("so far\n")
    assert result.files == {"made": b"so far"}


MEETS = {
    "disk": (
        "for name in ('big', 'bigger', 'too big', 'more'): open(name, 'wb', 0).write(bytes(2 << 20))",
        "Errno 28",
    ),
    "open_files": ("kept = [open('/dev/null') for _ in range(100)]", "Errno 24"),
    "file_size": ("open('big', 'wb').write(bytes(3 << 20))", "Errno 27"),
}


@pytest.mark.parametrize("limit", MEETS)
def test_a_limit_that_the_program_meets_as_an_error_is_named(boxes: Sandboxes, limit: str):
    code, error = MEETS[limit]
    result = run(boxes, SO_FAR + code)
    assert (result.exit_code, result.outcome.reason) == (1, "exited")
    assert error in result.stderr
    assert limit in result.outcome.limits_hit
    assert result.stdout == "so far\n"
    assert result.files["made"] == b"so far"


@pytest.mark.parametrize(("folder", "size"), [("/tmp", 2 * MIB), ("/dev/shm", MIB)])
def test_other_places_to_write_are_bounded_too(boxes: Sandboxes, folder: str, size: int):
    fill = f"for name in ('big', 'more'): open(f'{{sys.argv[1]}}/{{name}}', 'wb', 0).write(bytes({size}))"
    result = run(boxes, SO_FAR + fill, folder)
    assert "Errno 28" in result.stderr
    assert result.outcome.limits_hit == ("disk",)


FOLDERS = ["/workspace", "/tmp", "/dev/shm"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_too_many_files_are_an_error_where_the_mount_can_count(boxes: Sandboxes, folder: str):
    fill = "for number in range(1000): os.mkdir(f'{sys.argv[1]}/{number}')"
    result = run(boxes, SO_FAR + fill, folder)
    assert (result.exit_code, result.outcome.reason, result.outcome.limits_hit) == (1, "exited", ("inodes",))
    assert "Errno 28" in result.stderr
    assert result.stdout == "so far\n"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("make", ["os.mkdir(name)", "os.symlink('x', name)", "os.close(os.open(name, os.O_CREAT))"])
def test_too_many_files_end_the_run_where_no_mount_counts(boxes: Sandboxes, folder: str, make: str):
    source = f"""
        import itertools
        for number in itertools.count():
            name = f"{{sys.argv[1]}}/{{number}}"
            {make}
    """
    result = run(boxes, f"os.write(1, b'so far\\n')\n{textwrap.dedent(source)}", folder)
    assert (result.exit_code, result.outcome.reason, result.outcome.limits_hit) == (137, "oom", ("inodes",))
    assert result.stdout == "so far\n"


def test_a_full_disk_that_the_program_takes_in_its_stride_is_named_all_the_same(boxes: Sandboxes):
    source = """
        try:
            for name in "abc": open(name, "wb").write(bytes(2 << 20))
        except OSError:
            print("handled")
    """
    result = run(boxes, source)
    assert (result.stdout, result.exit_code, result.outcome.limits_hit) == ("handled\n", 0, ("disk",))


def test_a_timeout_with_no_inode_left_names_both(boxes: Sandboxes):
    source = "for number in range(1000): attempt(open, str(number), 'w')\nwhile True: pass"
    result = run(boxes, SO_FAR + source, timeout_ms=3000)
    assert (result.exit_code, result.outcome.reason, result.outcome.limits_hit) == (None, "timeout", ("inodes",))


def test_memory_of_one_process_is_its_memory_error(boxes: Sandboxes):
    result = run(boxes, SO_FAR + "kept = []\nwhile True: kept.append(b'x' * (1 << 20))")
    assert (result.exit_code, result.outcome.reason) == (1, "exited")
    assert result.stderr.endswith("MemoryError\n")
    assert (result.stdout, result.files) == ("so far\n", {"made": b"so far"})


def test_memory_of_a_thread_pool_is_not_counted_before_it_is_used(boxes: Sandboxes):
    source = """
        threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(20)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print("joined")
    """
    assert run(boxes, source).stdout == "joined\n"


def test_output_is_kept_to_the_cap_and_marked(boxes: Sandboxes):
    result = run(boxes, "sys.stdout.write('o' * 20_000); sys.stderr.write('e' * 10_000); sys.exit(3)")
    assert (result.stdout, result.stderr, result.exit_code) == ("o" * 10_000, "e" * 10_000, 3)
    assert (result.outcome.stdout_truncated, result.outcome.stderr_truncated) == (True, False)


def test_files_that_are_not_returned_are_listed(boxes: Sandboxes):
    source = """
        for number in range(3): open(f"a{number}", "wb").write(bytes(1 << 20))
        open("big", "wb").write(b"x")
        for number in range(3): open(f"c{number}", "w").write("x")
    """
    result = run(boxes, source)
    assert {path: len(data) for path, data in result.files.items()} == dict.fromkeys(("a0", "a1", "a2"), MIB)
    assert {each.path: each.reason for each in result.outcome.files_skipped} == dict.fromkeys(
        ("big", "c0", "c1", "c2"), "total_too_large"
    )


def test_a_program_has_one_core(boxes: Sandboxes):
    if "cpu quota" in boxes.pool.backend.isolation().missing or "cpu cgroup" in boxes.pool.backend.isolation().missing:
        pytest.skip("this machine gives no cpu cgroup")
    source = """
        def burn():
            end = time.monotonic() + 1.0
            while time.monotonic() < end: pass
        for pid in children(4, burn): os.waitpid(pid, 0)
        answer(sum(os.times()[:4]))
    """
    # A period's worth more may be used before the first is over.
    assert answer_of(boxes, source) < 1.3


def test_as_many_processes_as_are_allowed_are_fine(boxes: Sandboxes):
    result = run(boxes, SO_FAR + "pids = children(31, signal.pause)\nprint(len(pids))")
    assert (result.stdout, result.exit_code) == ("so far\n31\n", 0)
