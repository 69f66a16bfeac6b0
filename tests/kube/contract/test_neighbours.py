"""Pods of a node have one uid, and the kernel counts some things by uid: a hog in one pod must not stop another's shim.

What an honest program of another pod may meet meanwhile is said in `MAY_FAIL`. `hostUsers: false` ends that as well.
"""

from __future__ import annotations

import json

import anyio
import pytest

from pool import Program
from tests.hostile.attack import program
from tests.places import PodsOfACluster
from tests.sandboxes import Gathering, Result, Sandboxes

HOGS = {
    "pipes": """
        kept = []
        def fill():
            while len(kept) < 480:
                pipe = os.pipe()
                attempt(fcntl.fcntl, pipe[1], fcntl.F_SETPIPE_SZ, 1 << 20)
                kept.append(pipe)
            os.write(1, b"x"); signal.pause()
        children(4, fill); signal.pause()
    """,
    "descriptors on their way": """
        kept = []
        def send():
            ours, theirs = socket.socketpair(); kept.append((ours, theirs))
            return attempt(socket.send_fds, ours, [b"x"], [0] * 250)
        while send() == "done": pass
        os.write(1, b"x"); signal.pause()
    """,
    "signals that wait": """
        number, value = signal.SIGRTMIN, ctypes.c_void_p(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        while libc.sigqueue(os.getpid(), number, value) == 0: pass
        os.write(1, b"x")
        while True: time.sleep(1)
    """,
    "events": """
        def watch():
            events = [(os.eventfd(0)) for _ in range(500)]
            polls = [__import__("select").epoll() for _ in range(400)]
            for poll in polls:
                for event in events: attempt(poll.register, event, 1)
            os.write(1, b"x"); signal.pause()
        children(4, watch); signal.pause()
    """,
}

MAY_FAIL = {
    "descriptors on their way": {"descriptors": "ETOOMANYREFS"},
    "signals that wait": {"signal": "EAGAIN"},
}
"""What an honest program next door is refused while the hog lives, by the kernel's word."""

HONEST = """
def send():
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [0])
def queue():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    if libc.sigqueue(os.getpid(), signal.SIGRTMIN, ctypes.c_void_p(0)): raise OSError(ctypes.get_errno(), "")
sys.stderr.write("e" * 300_000)
found = {"descriptors": attempt(send), "signal": attempt(queue)}
answer({name: word for name, word in found.items() if word != "done"})
"""


class Heard(Gathering):
    """Knows when the hog has all that it can get."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = anyio.Event()

    async def output(self, stream: str, data: bytes) -> None:
        await super().output(stream, data)
        self.is_full.set()


async def beside(boxes: Sandboxes, hog: str, honest: str) -> list[Result]:
    """Three runs of an honest program, one after the other, while the hog holds what it has."""
    results, heard = [], Heard()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_run, boxes, hog, heard)
        with anyio.fail_after(60):
            await heard.is_full.wait()
        for _ in range(3):
            results.append(await _run(boxes, honest, Gathering()))
        tasks.cancel_scope.cancel()
    return results


async def _run(boxes: Sandboxes, source: str, sink: Gathering) -> Result:
    order = Program(code=program(source), timeout_ms=40_000)
    async with boxes.pool.lease(deadline=anyio.current_time() + 60) as lease:
        return sink.result(await lease.run(order, [], sink, anyio.current_time() + 60))


@pytest.mark.parametrize("name", HOGS)
def test_a_hog_next_door_stops_no_run(pods: PodsOfACluster, name: str):
    with pods.sandboxes() as boxes:
        results = boxes.portal.call(beside, boxes, HOGS[name], HONEST)
        for result in results:
            assert (result.exit_code, len(result.stderr)) == (0, 300_000)
            refused = json.loads(result.stdout)
            assert refused.items() <= MAY_FAIL.get(name, {}).items()
