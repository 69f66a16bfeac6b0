"""The workspace as an enemy leaves it: what comes back, what is left out and why, and what must never be followed."""

from __future__ import annotations

import anyio
import pytest

from pool import LocalProtocolError, Outcome, Program
from tests.hostile.attack import answer_of, program, run
from tests.sandboxes import Gathering, Result, Sandboxes


def skipped(result: Result) -> dict[str, str]:
    return {each.path: each.reason for each in result.outcome.files_skipped}


def test_links_are_not_followed(boxes: Sandboxes):
    source = """
        os.symlink("/etc/passwd", "passwd")
        os.symlink("/proc/1/environ", "environ")
        os.symlink("/proc/self/maps", "maps")
        os.symlink("/etc", "folder")
        os.symlink("loop", "loop")
        os.symlink("/workspace/real", "inside")
        open("real", "w").write("mine")
    """
    result = run(boxes, source)
    assert result.files == {"real": b"mine"}
    assert skipped(result) == dict.fromkeys(["passwd", "environ", "maps", "folder", "loop", "inside"], "not_regular")


def test_files_outside_cannot_be_linked_in(boxes: Sandboxes):
    source = """
        outside = os.open("/etc/passwd", os.O_RDONLY)
        AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000
        def link(flags, path):
            failed = libc.linkat(AT_FDCWD if path else outside, path, AT_FDCWD, b"hard", flags)
            return errno.errorcode[ctypes.get_errno()] if failed else "done"
        found = {
            attempt(os.link, "/etc/passwd", "hard"),
            link(AT_SYMLINK_FOLLOW, b"/proc/self/fd/%d" % outside),
            link(AT_EMPTY_PATH, b""),
            attempt(os.rename, "/etc/passwd", "hard"),
        }
        answer(sorted(found))
    """
    assert set(answer_of(boxes, source)) <= {"EXDEV", "EACCES", "EPERM", "ENOENT", "EROFS"}


def test_what_is_no_file_neither_blocks_nor_comes_back(boxes: Sandboxes):
    source = """
        socket.socket(socket.AF_UNIX).bind("socket")
        answer({
            "fifo": attempt(os.mkfifo, "fifo"),
            "character device": attempt(os.mknod, "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            "block device": attempt(os.mknod, "disk", stat.S_IFBLK | 0o666, os.makedev(254, 0)),
        })
    """
    result = run(boxes, source)
    assert result.stdout == '{"fifo": "EPERM", "character device": "EPERM", "block device": "EPERM"}\n'
    assert (result.files, skipped(result)) == ({}, {"socket": "not_regular"})


def test_names_stay_names(boxes: Sandboxes):
    names = [
        "-rf",
        "a\nb",
        ".hidden",
        "...",
        " ",
        "a\\b",
        "C:x",
        "\u202egnp",
        "\x01\x7f",
        "报告.csv",
        "%2e%2e",
        "~",
        "x" * 255,
    ]
    result = run(boxes, f"for name in {names!r}: open(name, 'w').write(name)")
    assert result.files == {name: name.encode() for name in names}


def test_names_that_are_no_text_are_left_out(boxes: Sandboxes):
    result = run(boxes, r"open(b'\xff\xfe', 'w'); open(b'caf\xe9', 'w'); open(b'\xed\xa0\x80', 'w')")
    assert result.files == {}
    assert set(skipped(result).values()) == {"name_not_utf8"}
    assert result.outcome.files_skipped_count == 3


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o400])
def test_a_closed_workspace_is_reported(boxes: Sandboxes, mode: int):
    result = run(boxes, f"open('file', 'w').write('x')\nos.chmod('/workspace', {mode})")
    assert (result.exit_code, result.files) == (0, {})
    assert set(skipped(result).values()) == {"unreadable"}


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o400])
def test_a_closed_folder_is_reported(boxes: Sandboxes, mode: int):
    source = f"""
        os.mkdir("folder")
        open("folder/file", "w").write("x")
        open("open", "w").write("y")
        os.chmod("folder", {mode})
    """
    result = run(boxes, source)
    assert (result.exit_code, result.files) == (
        0,
        {"open": b"y"} | ({"folder/file": b"x"} if mode & 0o500 == 0o500 else {}),
    )
    assert set(skipped(result).values()) == {"unreadable"}


def test_a_closed_file_is_reported(boxes: Sandboxes):
    result = run(boxes, "open('file', 'w').write('x'); os.chmod('file', 0)")
    assert (result.files, skipped(result)) == ({}, {"file": "unreadable"})


def test_paths_that_are_too_long_are_left_out(boxes: Sandboxes):
    source = """
        for _ in range(17):
            os.mkdir("d" * 240)
            os.chdir("d" * 240)
            open("f" * 240, "w").write("x")
    """
    result = run(boxes, source)
    assert result.exit_code == 0
    assert all(len(path) <= 4096 for path in result.files)
    assert len(result.files) >= 15
    assert set(skipped(result).values()) <= {"unreadable", "too_deep"}


def test_the_longest_names_fit_into_the_answer(boxes: Sandboxes):
    # An ASCII spelling of such a character is twelve bytes long.
    source = r"""
        os.chdir("/workspace")
        for _ in range(15):
            os.mkdir("\U0001f600" * 63)
            os.chdir("\U0001f600" * 63)
        for number in range(40):
            os.symlink("nowhere", "\U0001f600" * 40 + str(number))
    """
    result = run(boxes, source)
    assert (result.exit_code, result.files) == (0, {})
    assert (len(result.outcome.files_skipped), result.outcome.files_skipped_count) == (20, 40)


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("os.remove('__main__.py')", {}),
        ("open('__main__.py', 'w').write('other')", {}),
        ("os.remove('__main__.py'); os.symlink('/etc/passwd', '__main__.py')", {}),
        (
            "os.remove('__main__.py'); os.mkdir('__main__.py'); open('__main__.py/in', 'w').write('x')",
            {"__main__.py/in": b"x"},
        ),
        ("os.remove('__main__.py'); socket.socket(socket.AF_UNIX).bind('__main__.py')", {}),
        ("os.rename('__main__.py', 'moved'); open('moved', 'w').write('x')", {"moved": b"x"}),
        ("os.mkdir('sub'); open('sub/__main__.py', 'w').write('x')", {"sub/__main__.py": b"x"}),
    ],
    ids=["deleted", "rewritten", "link", "folder", "socket", "moved", "in a folder"],
)
def test_whatever_becomes_of_the_program_itself(boxes: Sandboxes, code: str, files: dict[str, bytes]):
    result = run(boxes, code)
    assert (result.exit_code, result.files) == (0, files)


def test_changed_inputs_come_back_and_others_do_not(boxes: Sandboxes):
    names = ("same", "touched", "rewritten", "mapped", "grown", "gone", "link", "sub/same")
    inputs = dict.fromkeys(names, b"0123456789")
    source = """
        os.utime("touched")
        open("rewritten", "wb").write(b"0123456789")
        with open("mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[0] = ord("X")
        open("grown", "ab").write(b"!")
        os.remove("gone")
        os.remove("link"); os.symlink("same", "link")
    """
    result = run(boxes, source, files=inputs)
    assert result.files == {"mapped": b"X123456789", "grown": b"0123456789!"}
    assert skipped(result) == {"link": "not_regular"}


def test_inputs_may_lie_in_a_thousand_folders(boxes: Sandboxes):
    path = "a/" * 1500 + "x"
    result = boxes.run("import sys; print(open(sys.argv[1]).read())", args=[path], files={path: b"deep", "a/y": b""})
    assert (result.stdout, result.exit_code, result.files) == ("deep\n", 0, {})


def test_a_path_that_the_kernel_cannot_take_is_refused_before_it_is_sent(boxes: Sandboxes):
    longest = ("d" * 99 + "/") * 40 + "f" * 84
    assert boxes.run("", files={longest: b"x"}).exit_code == 0
    with pytest.raises(LocalProtocolError):
        boxes.run("", files={longest + "f": b"x"})


def test_a_file_with_many_names_comes_back_once(boxes: Sandboxes):
    result = run(boxes, "open('a', 'w').write('x'); os.link('a', 'b'); os.mkdir('sub'); os.link('a', 'sub/c')")
    assert result.files == {"a": b"x"}
    assert skipped(result) == {"b": "hard_link", "sub/c": "hard_link"}


def test_a_deleted_file_that_is_still_open_does_not_come_back(boxes: Sandboxes):
    result = run(
        boxes, "kept = open('file', 'wb'); kept.write(b'x' * 1000); kept.flush(); os.remove('file'); os._exit(0)"
    )
    assert (result.exit_code, result.files) == (0, {})


def test_a_sparse_file_counts_with_its_length(boxes: Sandboxes):
    # Three of them are three times nothing on the disk, and more than is returned of one run.
    result = run(boxes, "for name in 'abc': open(name, 'wb').truncate(100 << 20)")
    assert {path: len(data) for path, data in result.files.items()} == dict.fromkeys("ab", 100 << 20)
    assert skipped(result) == {"c": "total_too_large"}


def test_nothing_is_swapped_while_it_is_collected(boxes: Sandboxes):
    # The status is forged, so that whoever believes it collects while a guest lives.
    source = """
        def swap():
            os.mkdir("real"); open("real/maps", "w").write("mine"); open("real/cmdline", "w").write("mine")
            os.symlink("/proc/self", "false")
            while True:
                for name in ("real", "false"):
                    os.rename(name, "folder")
                    os.rename("folder", name)
        def pretend():
            os.write(CONTROL, b"D0 ")
        pretend() if sys.argv[1] == "at once" else None
        children(1, swap)
        time.sleep(0.02)
        pretend()
        time.sleep(60)
    """
    for when in ("at once", "later") * 10:
        result = run(boxes, source, when)
        assert set(result.files.values()) <= {b"mine", b""}


def test_the_time_for_collecting_is_bounded(boxes: Sandboxes):
    source = "for number in range(900): open(f'{number}', 'wb').write(bytes(100_000))"
    began = boxes.portal.call(anyio.current_time)
    result = boxes.portal.call(_run_in_a_hurry, boxes, program(source))
    assert (result.exit_code, result.outcome.reason) == (0, "exited")
    assert "too_late" in skipped(result).values()
    assert boxes.portal.call(anyio.current_time) - began < 10


async def _run_in_a_hurry(boxes: Sandboxes, code: str) -> Result:
    """With next to nothing left of the time that staging and collection share."""
    sink, timeout_seconds = Gathering(), 5.0
    async with boxes.pool.lease(deadline=anyio.current_time() + 10) as lease:
        deadline = anyio.current_time() + timeout_seconds + 0.51
        order = Program(code=code, timeout_ms=int(timeout_seconds * 1000))
        outcome: Outcome = await lease.run(order, [], sink, deadline)
    return sink.result(outcome)
