"""The science template: has everything loaded, sees no request ever, and forks zygotes.

Run as a script by the programs' own Python, with the environment that programs see. A zygote's
children leave this module for good: `main` returns in them, with the program that they are to run.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys

from sandbox_runtime import (
    child,
    command_line,
    deaths,
    descriptors,
    kernel,
    namespaces,
    places,
    preload,
    program,
    rlimits,
    seccomp,
    template_memory,
    zygote,
)
from sandbox_runtime.lockdown import Lockdown
from sandbox_runtime.polling import Loop

from . import birth, nursery, root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .facts import ScienceFacts


def main(control: int, facts: ScienceFacts, left_out: frozenset[str], bare_modules: frozenset[str]) -> program.Program:
    """Serve `spawn` orders. Returns in the children of zygotes only.

    `bare_modules` are those that this Python had loaded before its first line.
    """
    kernel.set_parent_death_signal(signal.SIGKILL)
    service = socket.socket(fileno=control)
    try:
        template, loaded = _prepare(service, facts, left_out, bare_modules)
    except Exception as error:  # whatever a module does when it is imported: its operator wants to know
        known = isinstance(error, (preload.PreloadFailed, OSError))
        what = "preload" if isinstance(error, preload.PreloadFailed) else "template"
        descriptors.send(service, {"failed": str(error) if known else f"{type(error).__name__}: {error}", "what": what})
        os._exit(70)
    template.announce([name for name in loaded if name not in preload.STANDARD])
    _forget_ourselves()
    return template.serve()


def _prepare(
    service: socket.socket, facts: ScienceFacts, left_out: frozenset[str], bare_modules: frozenset[str]
) -> tuple[Template, list[str]]:
    rlimits.limit_stack(rlimits.MAIN_STACK_BYTES)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    writable = "read_only_root" in left_out
    root.build(facts["trees"], facts["font_lists"], writable, keep_host="mount_namespace" in left_out)
    places.lay_out_tmp(root.FONT_LISTS)
    # Loaded inside the root that programs will see: what is missing there is found now and not in a run.
    loaded = preload.load(facts["preload"], [*preload.STANDARD, *facts["preload_if_there"]])
    command_line.find()
    command_line.show([nursery.TITLE, "science"])
    template_memory.gather()
    template_memory.let_go_of_code()
    if not writable:
        root.seal()
    kernel.set_dumpable(False)
    return Template(service, facts, left_out, bare_modules), loaded


class Template:
    """Forks zygotes, one order after the other."""

    def __init__(
        self, control: socket.socket, facts: ScienceFacts, left_out: frozenset[str], bare_modules: frozenset[str]
    ) -> None:
        self._control, self._left_out = control, left_out
        self._as_root, self._trees = facts["as_root"], facts["trees"]
        self._places = child.Places(
            environment=facts["environment"],
            python=sys.executable,
            filters=seccomp.Filters(platform.machine(), (1, birth.SUPERVISOR_PID)),
            bare_modules=bare_modules,
            cold=child.COLD in left_out,
        )
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._zygotes = 0
        self._retired = False
        self._born: tuple[dict[str, object], list[int]] | None = None
        """In a zygote: what it was born with."""

    def announce(self, loaded: list[str]) -> None:
        descriptors.send(self._control, {"loaded": loaded})

    def serve(self) -> program.Program:
        dead = deaths.Deaths()
        self._loop = Loop()
        self._loop.on(dead.descriptor, lambda: self._mourn(len(dead.reap())))
        self._loop.on(self._control.fileno(), self._obey)
        while self._born is None:
            self._loop.turn()
        return self._live(*self._born)

    def _mourn(self, dead: int) -> None:
        self._zygotes -= dead
        if self._retired and self._zygotes == 0:
            os._exit(0)

    def _obey(self) -> None:
        try:
            order, own = descriptors.receive(self._control)
        except descriptors.Truncated as error:
            self._answer({"failed": str(error)})
            return
        except OSError:
            self._retire()
            return
        try:
            self._spawn(order, own)
        except OSError as error:
            self._answer({"failed": str(error)})
        finally:
            if self._born is None:
                for descriptor in own:
                    os.close(descriptor)

    def _answer(self, words: dict[str, object], handles: Iterable[int] = ()) -> None:
        try:
            descriptors.send(self._control, words, handles)
        except OSError:  # the service does not listen any more: its end is read next
            return

    def _retire(self) -> None:
        """No more orders: a newer template has taken over, or the service is gone. Stay to reap the last zygote."""
        self._loop.off(self._control.fileno())
        self._control.close()
        self._retired = True
        self._mourn(0)

    def _spawn(self, order: dict[str, object], own: list[int]) -> None:
        """Fork a zygote into a new PID namespace."""
        namespaces.unshare(namespaces.CLONE_NEWPID)
        pid = nursery.forked_elsewhere(self._own_pids)
        if pid == 0:
            self._born = (order, own)
            return
        self._zygotes += 1
        handle = kernel.pidfd_open(pid)
        self._answer({"done": "spawn"}, [handle])
        os.close(handle)

    # --- in the sandbox

    def _live(self, order: dict[str, object], own: list[int]) -> program.Program:
        """Be a zygote. Returns in its children."""
        supervisor, groups = socket.socket(fileno=own[0]), own[1:]
        lockdown = Lockdown(self._left_out)
        descriptors.close_all_but([0, 1, 2, *own])
        deaths.forget()
        try:
            host_id, limits = order["host_id"], order["limits"]
            birth.become_first(host_id, self._as_root, limits, self._trees, lockdown)  # type: ignore[arg-type]
        except OSError as error:
            _tell(supervisor, {"failed": str(error)})
            os._exit(70)
        _tell(supervisor, {"born": os.getuid(), "steps": lockdown.applied})
        # A socket closes its number when it dies, whoever has that number then: a program, as a rule.
        self._control.detach()
        request_order = zygote.serve(supervisor, groups)
        supervisor.detach()
        return self._arm(request_order, lockdown)

    def _arm(self, order: child.Order, lockdown: Lockdown) -> program.Program:
        # Told with the others, so that the broker sees one list; the supervisor's is done in another process.
        lockdown.did("supervisor_not_dumpable")
        return child.arm(order, self._places, lockdown)


def _tell(supervisor: socket.socket, words: dict[str, object]) -> None:
    try:
        descriptors.send(supervisor, words)
    except OSError:  # whoever wanted this sandbox has given it up
        os._exit(0)


def _forget_ourselves() -> None:
    """A program that imports its own `launcher` must not get ours."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("launcher", "sandbox_runtime")]:
        del sys.modules[name]
