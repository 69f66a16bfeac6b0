"""A broker that does not read for a while: nothing is lost, nothing piles up, and no clock waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pool import RunLimits
from sandbox_runtime import wire
from tests.contract import dialogue
from tests.contract.dialogue import Speaking, files_of, outcome_of, soon, speaking
from tests.local_backends import code, printed, start

LIMITS = RunLimits(output_bytes=400_000, output_kill_bytes=8 * 2**20)
ROOM_BYTES = 3 * 2**20
"""For a supervisor to grow. In a frame of its own each byte would take a hundred: 6 MB in the program below."""

BYTE_BY_BYTE = """
import os
from fcntl import ioctl
from termios import FIONREAD
waiting = bytearray(4)
for number in range({count}):
    os.write(1 + number % 2, b"%d" % (number % 10))
    # Until it was read: so each becomes a frame of its own, if frames there must be.
    while not ioctl(1 + number % 2, FIONREAD, waiting) and any(waiting):
        os.sched_yield()
"""
COUNT = 60_000


@pytest.fixture(scope="module")
def broker() -> Iterator[Speaking]:
    with speaking(LIMITS) as speaks:
        yield speaks


def byte_by_byte(count: int) -> tuple[bytes, bytes]:
    """What the program above writes to each stream."""
    digits = b"0123456789" * (count // 10)
    return digits[0::2], digits[1::2]


def test_what_was_not_read_is_there_in_full_and_took_little_memory(broker: Speaking):
    with broker.greeted() as speaks:
        supervisor = dialogue.supervisor()
        before_bytes = dialogue.resident_bytes(supervisor)
        speaks.say(code(BYTE_BY_BYTE.format(count=COUNT)), start(timeout_ms=60_000))
        assert soon(lambda: dialogue.guests() == [])
        assert dialogue.resident_bytes(supervisor) - before_bytes < ROOM_BYTES
        answer = speaks.answer()
    assert (printed(answer), printed(answer, "stderr")) == byte_by_byte(COUNT)
    ended = outcome_of(answer)
    assert (ended.exit_code, ended.stdout_truncated, ended.stderr_truncated) == (0, False, False)


def test_pings_are_answered_behind_a_backlog_and_output_keeps_its_order(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(code(BYTE_BY_BYTE.format(count=COUNT)), start(timeout_ms=60_000))
        assert soon(lambda: dialogue.guests() == [])
        answer = speaks.answer()
        assert speaks.pong(5)
    assert (printed(answer), printed(answer, "stderr")) == byte_by_byte(COUNT)


def test_the_clock_runs_on(broker: Speaking):
    source = "import os\nwhile True: os.write(1, b'x' * 1000)"
    with broker.greeted() as speaks:
        speaks.say(code(source), start(timeout_ms=1500))
        assert soon(lambda: dialogue.guests() == [])
        answer = speaks.answer()
    ended = outcome_of(answer)
    assert ended.reason in ("timeout", "output_limit")
    assert ended.duration_ms < 10_000
    assert printed(answer) == b"x" * LIMITS.output_bytes


def test_a_timeout_comes_in_time_when_nothing_of_the_output_was_read(broker: Speaking):
    source = "import os, time\nos.write(1, b'x' * 390_000)\nwhile True: time.sleep(1)"
    with broker.greeted() as speaks:
        speaks.say(code(source), start(timeout_ms=1500))
        assert soon(lambda: dialogue.guests() == [])
        answer = speaks.answer()
    ended = outcome_of(answer)
    assert (ended.reason, printed(answer)) == ("timeout", b"x" * 390_000)
    assert ended.duration_ms < 10_000


def test_files_wait_for_the_reader_too(broker: Speaking):
    made = b"0123456789abcdef" * 2**18
    source = "open('big', 'wb').write(b'0123456789abcdef' * 2**18)\nopen('small', 'w').write('s')"
    with broker.greeted() as speaks:
        supervisor = dialogue.supervisor()
        before_bytes = dialogue.resident_bytes(supervisor)
        speaks.say(code(source), start())
        assert soon(lambda: dialogue.guests() == [])
        assert dialogue.resident_bytes(supervisor) - before_bytes < ROOM_BYTES
        answer = speaks.answer()
    assert files_of(answer) == {"big": made, "small": b"s"}


def test_a_reader_that_goes_away_instead_ends_the_sandbox(broker: Speaking):
    with broker.greeted() as speaks:
        speaks.say(code(BYTE_BY_BYTE.format(count=COUNT)), start())
        assert soon(lambda: dialogue.guests() == [])
        speaks.end()
        assert speaks.lost.wait(dialogue.PATIENCE_SECONDS)


@pytest.mark.parametrize("frames", [1, 50])
def test_a_cancel_is_heard_although_nobody_reads(broker: Speaking, frames: int):
    source = "import os\nos.write(2, b'x')\nwhile True: os.write(1, b'x')"
    with broker.greeted() as speaks:
        speaks.say(code(source), start(timeout_ms=60_000))
        for _ in range(frames):
            speaks.hear()
        speaks.say(wire.Cancel())
        assert soon(lambda: dialogue.guests() == [])
        assert outcome_of(speaks.answer()).reason == "cancelled"
