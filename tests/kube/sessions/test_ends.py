"""What ends all programs of a session leaves the replicas their channels to it."""

from __future__ import annotations

import threading
import time

import pytest

from tests.kube.sessions.conftest import Pair

pytestmark = pytest.mark.slow

EAT = "for n in 1 2 3 4; do python3 -c 'import time; x = b\"x\" * (100 << 20); time.sleep(1000)' & done"
BOMB = "bomb() { bomb & bomb & wait; }; bomb"
FORK = "while true; do sleep 1000 & done"

CHANNELS = """
for process in /proc/[0-9]*; do
    tr '\\0' ' ' < $process/cmdline | grep -q '^code-interpreter supervisor' && echo $process
done 2> /dev/null
true
"""

ALL_GONE = "while grep -qs sleep /proc/[0-9]*/comm || grep -qs '[1]00 << 20' /proc/[0-9]*/cmdline; do :; done"

QUIET_SECONDS = 2.0
"""For which no call watches what was left, and the session does."""


@pytest.mark.parametrize(
    ("command", "reason"), [(f"{EAT}; wait", "oom"), (BOMB, "process_limit"), (FORK, "process_limit")]
)
def test_a_call_that_takes_too_much_is_told_of_it_and_others_have_their_turn(pair: Pair, command: str, reason: str):
    one, two = pair
    session = one.open()
    one.bash(session, "setsid sleep 1000 > /dev/null 2>&1 &")
    channels = two.bash(session, CHANNELS)
    assert len(channels.split()) == 3
    told: list[str] = []
    waits = threading.Thread(target=lambda: told.append(one.bash(session, "echo my turn")))
    ends = threading.Thread(target=lambda: told.append(two.ask(session, f"sleep 1; {command}").text))
    ends.start()
    waits.start()
    waits.join()
    ends.join()
    assert "my turn\n" in told
    assert f'"reason":"{reason}"' in "".join(told).replace(" ", "")
    assert two.bash(session, f"{ALL_GONE}; {CHANNELS}") == channels
    one.close(session)


def test_what_takes_too_much_in_the_background_goes_alone(pair: Pair):
    one, two = pair
    session = one.open()
    one.bash(session, "true")
    channels = two.bash(session, CHANNELS)
    assert len(channels.split()) == 3
    one.bash(session, f"(sleep 0.5; {EAT}; wait) > /dev/null 2>&1 &")
    time.sleep(QUIET_SECONDS)
    assert two.bash(session, f"{ALL_GONE}; {CHANNELS}") == channels
    one.close(session)
