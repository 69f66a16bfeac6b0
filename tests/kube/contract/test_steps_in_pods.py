"""The lock-down in pods: without the steps that stop it an attack succeeds; each of them alone stops it.

The launcher's steps are the container runtime's there, and cannot be left out. So these are attacks that reach the
child's own: the same as on one machine (`tests/hostile/lockdown_attacks.py`), and those on what only a pod has.
"""

from __future__ import annotations

import textwrap

import pytest

from pool import SandboxLost
from tests.hostile.attack import run
from tests.hostile.lockdown_attacks import ATTACKS, FORGED_STATUS, Attack, Won
from tests.places import PodsOfACluster
from tests.sandboxes import Sandboxes

IN_PODS = {
    "kill the supervisor": ATTACKS["kill the supervisor"],
    "have the kernel kill the supervisor": ATTACKS["have the kernel kill the supervisor"],
    "renice the zygote with one's own group": ATTACKS["renice the zygote with one's own group"],
    "tell the supervisor of a death that never was": ATTACKS["tell the supervisor of a death that never was"],
    "make a file of a terabyte": ATTACKS["make a file of a terabyte"],
    "reach the network stack": ATTACKS["reach the network stack"],
    "send a packet to the API server": Attack(
        """
        with socket.socket(socket.AF_INET) as peer:
            peer.settimeout(5)
            peer.connect((host, 443))
        answer(True)
        """.replace("host", repr("10.96.0.1")),
        stopped_by=("seccomp", "landlock"),
    ),
    "leave a message that PID 1 is said to have written": Attack(
        """
        with open("/dev/termination-log", "w") as log:
            log.write("planted")
        answer(True)
        """,
        stopped_by=("landlock",),
    ),
    "have a terminal": Attack("answer(len(os.openpty()) == 2)", stopped_by=("landlock",)),
}
EACH_ALONE = [(name, step) for name, attack in IN_PODS.items() for step in attack.stopped_by if attack.stopped_by[1:]]


def succeeds(boxes: Sandboxes, attack: Attack) -> bool:
    try:
        result = run(boxes, textwrap.dedent(attack.source), timeout_ms=6000)
    except SandboxLost:
        return attack.won is Won.SANDBOX_LOST
    return {
        Won.SAYS_SO: result.stdout == "true\n",
        Won.SANDBOX_LOST: False,
        Won.FORGED: result.exit_code == FORGED_STATUS,
    }[attack.won]


def test_with_every_step_each_attack_fails(pods: PodsOfACluster):
    with pods.sandboxes() as boxes:
        assert [name for name, attack in IN_PODS.items() if succeeds(boxes, attack)] == []


@pytest.mark.parametrize("name", IN_PODS)
def test_without_the_steps_that_stop_it_the_attack_succeeds(pods: PodsOfACluster, name: str):
    with pods.sandboxes(left_out=IN_PODS[name].stopped_by) as boxes:
        assert succeeds(boxes, IN_PODS[name])


@pytest.mark.parametrize(("name", "step"), EACH_ALONE)
def test_each_of_these_steps_stops_it_alone(pods: PodsOfACluster, name: str, step: str):
    others = [other for other in IN_PODS[name].stopped_by if other != step]
    with pods.sandboxes(left_out=others) as boxes:
        assert not succeeds(boxes, IN_PODS[name])
