"""The science template: has everything loaded, sees no request ever, and forks zygotes.

Run as a script by the programs' own Python, with the environment that programs see. A zygote's
children leave this module for good: `main` returns in them, with the program that they are to run.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import socket
import sys

from launcher import birth, nursery, preload, root

from sandbox_runtime import child, descriptors, kernel, namespaces, program, seccomp, zygote
from sandbox_runtime.lockdown import Lockdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

_SIGNALFD_RECORD_BYTES = 128
MAIN_STACK_BYTES = 8 * 2**20
_SUPERVISOR_PID = 2
"""In its sandbox's PID namespace: it is the first to join the zygote there."""


def main(control: int, facts: dict[str, object], left_out: frozenset[str]) -> program.Program | None:
    """Serve `spawn` orders. Returns in the children of zygotes only."""
    kernel.set_parent_death_signal(signal.SIGKILL)
    nursery.limit_stack(MAIN_STACK_BYTES)
    trees: list[str] = facts["trees"]  # type: ignore[assignment]  # from the service
    namespaces.unshare(namespaces.CLONE_NEWNS)
    writable = "read_only_root" in left_out
    root.build(trees, str(facts["font_lists"]), writable)
    os.environ["MPLCONFIGDIR"] = root.FONT_LISTS
    # Loaded inside the root that programs will see: what is missing there is found now and not in a run.
    loaded = preload.load([*preload.STANDARD, *facts["preload"]])  # type: ignore[misc]
    if not writable:
        root.seal()
    kernel.set_dumpable(False)
    template = Template(socket.socket(fileno=control), facts, left_out)
    template.announce([name for name in loaded if name not in preload.STANDARD])
    return template.serve()


class Template:
    """Forks zygotes, one order after the other."""

    def __init__(self, control: socket.socket, facts: dict[str, object], left_out: frozenset[str]) -> None:
        self._control, self._left_out = control, left_out
        self._as_root = bool(facts["as_root"])
        self._places = child.Places(
            environment=facts["environment"],  # type: ignore[arg-type]
            python=sys.executable,
            filter_program=seccomp.build(platform.machine(), (1, _SUPERVISOR_PID)),
        )
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._zygotes = 0

    def announce(self, loaded: list[str]) -> None:
        descriptors.send(self._control, {"loaded": loaded})

    def serve(self) -> program.Program | None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        deaths = kernel.signalfd([signal.SIGCHLD])
        poll = select.poll()
        poll.register(deaths, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if deaths in ready:
                os.read(deaths, 16 * _SIGNALFD_RECORD_BYTES)
                self._reap()
            if self._control.fileno() in ready:
                try:
                    order, own = descriptors.receive(self._control)
                except OSError:
                    self._retire(poll)
                    continue
                if self._spawn(order, own):
                    return self._live(order, own)

    def _reap(self) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                self._zygotes -= 1
        except ChildProcessError:
            pass
        if self._control.fileno() < 0 and self._zygotes == 0:
            os._exit(0)

    def _retire(self, poll: select.poll) -> None:
        """No more orders: a newer template has taken over, or the service is gone. Stay to reap the last zygote."""
        poll.unregister(self._control)
        self._control.close()
        self._reap()

    def _spawn(self, order: dict[str, object], own: list[int]) -> bool:
        """Fork a zygote into a new PID namespace. True in the zygote."""
        try:
            namespaces.unshare(namespaces.CLONE_NEWPID)
            pid = os.fork()
        except OSError as error:
            descriptors.send(self._control, {"failed": str(error)})
            return False
        if pid == 0:
            return True
        namespaces.setns(self._own_pids, namespaces.CLONE_NEWPID)
        self._zygotes += 1
        for descriptor in own:
            os.close(descriptor)
        handle = kernel.pidfd_open(pid)
        descriptors.send(self._control, {"done": "spawn"}, [handle])
        os.close(handle)
        return False

    # --- in the sandbox

    def _live(self, order: dict[str, object], own: list[int]) -> program.Program | None:
        """Be a zygote. Returns in its children."""
        supervisor, groups = socket.socket(fileno=own[0]), own[1:]
        lockdown = Lockdown(self._left_out)
        descriptors.close_all_but([0, 1, 2, *own])
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        try:
            birth.become_first(order["host_id"], self._as_root, order["limits"], lockdown)  # type: ignore[arg-type]
        except OSError as error:
            descriptors.send(supervisor, {"failed": str(error)})
            os._exit(70)
        descriptors.send(supervisor, {"born": True})
        request_order = zygote.serve(supervisor, groups)
        return self._arm(request_order, lockdown)

    def _arm(self, order: child.Order, lockdown: Lockdown) -> program.Program | None:
        # Told with the others, so that the broker sees one list; the supervisor's is done in another process.
        lockdown.did("supervisor_not_dumpable")
        _forget_ourselves()
        return child.arm_and_wait(order, self._places, lockdown)


def _forget_ourselves() -> None:
    """A program that imports its own `launcher` must not get ours."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("launcher", "sandbox_runtime")]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path not in _OWN_PATHS]


_OWN_PATHS: list[str] = []


def start(words: str, own_paths: list[str], left_out: list[str]) -> program.Program | None:
    """Entry of `science_main.py`: `words` is JSON, see `pool/local/launch.py`."""
    _OWN_PATHS.extend(own_paths)
    facts = json.loads(words)
    return main(int(sys.argv[-1]), facts, frozenset(left_out))
