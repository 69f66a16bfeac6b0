"""Deaths of children, told by a descriptor."""

from __future__ import annotations

from tests.unit import confined

SETUP = """
import select, struct
from sandbox_runtime import deaths

def die(status):
    if (pid := os.fork()) == 0:
        os._exit(status)
    return pid

def remembered(pid):
    "Whether a record of this death is anywhere in our memory. What is looked for is nowhere whole."
    head = struct.pack("=I", signal.SIGCHLD) + bytes(4), struct.pack("=i", 1), struct.pack("=I", pid)
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for low, high in [line.split()[0].split("-") for line in maps if " rw-p " in line]:
            memory.seek(int(low, 16))
            held = memory.read(int(high, 16) - int(low, 16))
            at = -1
            while (at := held.find(head[0], at + 1)) >= 0:
                if held[at + 8 : at + 12] == head[1] and held[at + 12 : at + 16] == head[2]:
                    return True
    return False
"""

REAPED = """
reaper = deaths.Deaths()
dead = [die(3), die(4)]
found = []
while len(found) < 2:
    select.select([reaper.descriptor], [], [])
    found += reaper.reap()
answer([sorted(found) == sorted(zip(dead, (3, 4))), any(reaper._records)])
"""

REMEMBERED = """
reaper = deaths.Deaths()
if arguments[0]:
    os.readv = lambda descriptor, buffers: globals().update(kept=os.read(descriptor, 2048))
dead = die(3)
select.select([reaper.descriptor], [], [])
reaper.reap()
answer(remembered(dead))
"""


def test_who_has_died_is_told_with_the_status_and_no_record_is_kept():
    assert confined.answer_of(REAPED, setup=SETUP) == [True, False]


def test_what_the_kernel_said_of_a_death_is_nowhere_in_memory():
    """SECURITY: the next child is a fork of the process that has read it."""
    assert [confined.answer_of(REMEMBERED, kept, setup=SETUP) for kept in (True, False)] == [True, False]
