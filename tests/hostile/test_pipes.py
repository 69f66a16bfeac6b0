"""Five pipes join a program to its supervisor, and through /proc it can open the other end of each anew."""

from __future__ import annotations

import pytest

from tests.hostile.attack import run
from tests.sandboxes import Sandboxes

SLACK_MS = 10_000
FOR_EVER = "\nwhile True:\n    pass"


def test_a_forged_status_lies_about_the_forger_only(boxes: Sandboxes):
    result = run(boxes, "print('it goes on', flush=True)\nos.write(CONTROL, b'D42 disk')" + FOR_EVER, timeout_ms=5000)
    assert (result.exit_code, result.outcome.reason, result.outcome.limits_hit) == (42, "exited", ("disk",))
    assert result.stdout == "it goes on\n"


@pytest.mark.parametrize(
    "said",
    [
        *(b"D", b"D0x", b"D999", b"D-1", b"D0 DISK", b"D0 disk\n", b"\0" * 65536, b"A{}", b"D" * 65536),
        b"D" + "²".encode() * 3,
        b"D0D0",
    ],
    ids=lambda said: repr(said[:8]),
)
def test_what_is_no_status_is_ignored(boxes: Sandboxes, said: bytes):
    result = run(boxes, f"os.write(CONTROL, {said!r})\ntime.sleep(0.01)\nsys.exit(7)")
    assert (result.exit_code, result.outcome.reason, result.outcome.limits_hit) == (7, "exited", ())


def test_a_status_with_a_thousand_limits_is_one_with_few(boxes: Sandboxes):
    result = run(boxes, "os.write(CONTROL, b'D5 ' + b'disk,open_files,nonsense,' * 1000)" + FOR_EVER, timeout_ms=5000)
    assert (result.exit_code, result.outcome.limits_hit) == (5, ("disk", "open_files"))


def test_a_flood_on_the_control_pipe_does_not_stop_the_clock(boxes: Sandboxes):
    result = run(boxes, "while True:\n    os.write(CONTROL, b'x' * 4096)", timeout_ms=300)
    assert (result.exit_code, result.outcome.reason) == (None, "timeout")


def test_stealing_what_it_wrote_does_not_stop_the_clock(boxes: Sandboxes):
    # The supervisor hears that there is something to read, and finds that somebody else has read it. Did it wait for
    # more, nobody would empty stdout: that is how the thief sees that it may go on for ever.
    source = """
        import itertools, struct, termios
        reading = os.open(f"/proc/self/fd/{CONTROL}", os.O_RDONLY | os.O_NONBLOCK)
        def is_stuck():
            os.write(1, b"?")
            time.sleep(0.002)
            return struct.unpack("i", fcntl.ioctl(1, termios.FIONREAD, bytes(4)))[0] > 0
        def wait(seconds):
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                pass
        for microseconds in itertools.cycle((1, 5, 10, 20, 50, 100)):
            os.write(CONTROL, b"x")
            wait(microseconds / 1e6)
            if attempt(os.read, reading, 10) == "done" and is_stuck() and not wait(0.1) and is_stuck():
                while True:
                    pass
    """
    for _ in range(3):
        result = run(boxes, source, timeout_ms=600)
        assert (result.exit_code, result.outcome.reason) == (None, "timeout")
        assert result.outcome.duration_ms < SLACK_MS


def test_a_status_that_was_stolen_is_told_by_the_kernel(boxes: Sandboxes):
    source = """
        def steal():
            reading = os.open(f"/proc/self/fd/{CONTROL}", os.O_RDONLY)
            os.write(1, b"x")
            while True:
                os.read(reading, 65536)
        children(1, steal)
        time.sleep(0.05)
        sys.exit(9)
    """
    result = run(boxes, source)
    assert (result.exit_code, result.outcome.reason) == (9, "exited")


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_pipes_of_another_size_carry_the_same_output(boxes: Sandboxes, size: int):
    source = f"""
        for descriptor in (0, 1, 2, CONTROL):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, {size})
        sys.stdout.write("o" * 300_000)
        sys.stderr.write("e" * 300_000)
        sys.exit(7)
    """
    result = run(boxes, source)
    assert (result.stdout, result.stderr, result.exit_code) == ("o" * 300_000, "e" * 300_000, 7)


def test_a_full_pipe_at_the_end_is_read_to_its_last_byte(boxes: Sandboxes):
    source = """
        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(1, False)
        os.write(1, b"x" * 900_000)
        os._exit(0)
    """
    result = run(boxes, source)
    assert (len(result.stdout), result.exit_code) == (900_000, 0)


def test_output_byte_by_byte_arrives_whole(boxes: Sandboxes):
    result = run(boxes, "for number in range(100_000): os.write(1 + number % 2, b'%d' % (number % 10))")
    assert (result.stdout, result.stderr, result.exit_code) == ("02468" * 10_000, "13579" * 10_000, 0)


def test_output_after_the_status_breaks_nothing(boxes: Sandboxes):
    # A program that ended honestly may leave a process behind that prints on.
    source = """
        def print_on():
            while True:
                os.write(1, b"y" * 4096)
                time.sleep(0.0001)
        sys.stdout.write("x" * 600_000)
        children(1, print_on)
        sys.exit(3)
    """
    for _ in range(5):
        result = run(boxes, source)
        assert (result.exit_code, result.outcome.reason) == (3, "exited")
        assert result.stdout.startswith("x" * 600_000)


def test_standard_input_that_is_closed_or_never_read_holds_nobody_up(boxes: Sandboxes):
    plenty = "x" * 1_000_000
    assert run(boxes, "os.close(0)\nprint('closed')", stdin=plenty).stdout == "closed\n"
    assert run(boxes, "print('unread')", stdin=plenty).stdout == "unread\n"
    assert run(boxes, FOR_EVER, stdin=plenty, timeout_ms=200).outcome.reason == "timeout"


def test_standard_input_that_the_program_fills_itself_holds_nobody_up(boxes: Sandboxes):
    source = """
        writing = os.open("/proc/self/fd/0", os.O_WRONLY)
        os.write(writing, b"from myself\\n")
        answer(sys.stdin.readline())
    """
    result = run(boxes, source)
    assert (result.stdout, result.exit_code) == ('"from myself\\n"\n', 0)


def test_closed_output_ends_nothing(boxes: Sandboxes):
    result = run(boxes, "os.close(1); os.close(2); os.close(CONTROL); time.sleep(0.1); os._exit(4)")
    assert (result.stdout_bytes, result.stderr_bytes, result.exit_code) == (b"", b"", 4)
