"""The nursery: PID 1 of the launcher's namespace. Forks supervisors, starts and reaps everything.

An exec'd Python costs 17-44 ms of CPU; a fork of this small process costs 2.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket

from sandbox_runtime import command_line, deaths, descriptors, kernel, namespaces, outbox, rlimits, session, supervisor
from sandbox_runtime.lockdown import Lockdown
from sandbox_runtime.polling import Loop

from . import birth, root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from .facts import KeeperFacts

LOADED_FOR_LATER = (session,)
"""What supervisors import only when they need it: in a sandbox's root there is no source to import it from."""

TITLE = "code-interpreter"
"""The first word that `ps` shows of our processes."""


def main(facts: KeeperFacts, left_out: frozenset[str]) -> NoReturn:
    """Serve `supervise` and `template` orders until the service closes its end."""
    kernel.set_parent_death_signal(signal.SIGKILL)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("proc", "/proc", "proc", namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC)
    if "read_only_root" not in left_out:
        root.make_read_only(facts["trees"])
    command_line.find()
    command_line.show([TITLE, "nursery"])
    kernel.set_dumpable(False)
    gc.collect()
    gc.freeze()
    gc.disable()
    Nursery(facts, Lockdown(left_out)).serve()


def _start_science(facts: KeeperFacts, control: int, doors: list[int]) -> int:
    """Exec a template with the programs' libraries, in the cgroups behind `doors`; its pid. Its environment is the one
    that programs see."""
    pid = os.fork()
    if pid == 0:
        try:
            for door in doors:
                os.write(door, b"0")
            descriptors.close_all_but([0, 1, 2, control])
            os.set_inheritable(control, True)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            rlimits.limit_stack(rlimits.THREAD_STACK_BYTES)
            command = [*facts["science_command"], str(control)]
            os.execve(command[0], command, facts["science_environment"])  # noqa: S606  # no shell, no words of a guest
        except BaseException as error:  # a fork must not fall back into the nursery's loop
            complain("the template could not be started", error)
        finally:
            os._exit(127)
    return pid


class Nursery:
    """Answers orders one after the other."""

    def __init__(self, facts: KeeperFacts, lockdown: Lockdown) -> None:
        self._facts, self._lockdown = facts, lockdown
        self._control = socket.socket(fileno=facts["nursery_control"])
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        dead = deaths.Deaths()
        loop = Loop()
        loop.on(dead.descriptor, dead.reap)
        loop.on(self._control.fileno(), self._obey)
        while True:
            loop.turn()

    def _obey(self) -> None:
        try:
            order, own = descriptors.receive(self._control)
        except descriptors.Truncated as error:
            self._answer({"failed": str(error)})
            return
        except OSError:
            os._exit(0)
        try:
            self._carry_out(order, own)
        except OSError as error:
            self._answer({"failed": str(error)})
        finally:
            for descriptor in own:
                os.close(descriptor)

    def _carry_out(self, order: dict[str, object], own: list[int]) -> None:
        if order["do"] == "template":
            handle = kernel.pidfd_open(_start_science(self._facts, own[0], own[1:]))
            self._answer({"done": "template"}, [handle])
            os.close(handle)
        else:
            self._supervise(order, own)
            self._answer({"done": "supervise"})

    def _answer(self, words: dict[str, object], handles: Iterable[int] = ()) -> None:
        try:
            descriptors.send(self._control, words, handles)
        except OSError:  # the service is gone
            os._exit(0)

    def _supervise(self, order: dict[str, object], own: list[int]) -> None:
        """Fork a supervisor into the sandbox whose PID 1 is behind the first descriptor."""
        namespaces.setns(own[0], namespaces.CLONE_NEWPID)
        if forked_elsewhere(self._own_pids) == 0:
            self._become_supervisor(order, own)

    def _become_supervisor(self, order: dict[str, object], own: list[int]) -> NoReturn:
        try:
            sandbox, channel, zygote = own[:3]
            deaths.forget()
            descriptors.close_all_but([0, 1, 2, *own])
            socket_to_zygote = socket.socket(fileno=zygote)
            own_id, steps = _hear_of_birth(socket_to_zygote)
            birth.join(sandbox, own_id, steps, self._lockdown)
            names: list[str] = order["gauges"]  # type: ignore[assignment]  # from the service
            facts = dict(order, gauges=dict(zip(names, own[3:])), cleans=root.FONT_LISTS if order["cleans"] else None)
            supervisor.Supervisor(outbox.Channel(channel, channel), socket_to_zygote, facts).serve()
        except (descriptors.PeerGone, ProcessLookupError):  # the sandbox was given up before it was born
            os._exit(0)
        except BaseException as error:  # a fork must not fall back into the nursery's loop
            # A namespace whose first process is just ending refuses with EPERM.
            if not _ends(own[0]):
                complain("a supervisor could not be started", error)
        finally:
            os._exit(70)


def _ends(handle: int) -> bool:
    """Whether the process behind a pidfd has ended, or does so within a moment."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(500))


def forked_elsewhere(own_pids: int) -> int:
    """Fork into the PID namespace that was set for children, and set it back to our own; returns what `fork` does."""
    pid = -1
    try:
        pid = os.fork()
    finally:
        # After a failed fork too: with the other namespace still set the kernel refuses to make or join a third.
        if pid != 0:
            namespaces.setns(own_pids, namespaces.CLONE_NEWPID)
    return pid


def _hear_of_birth(zygote: socket.socket) -> tuple[int, list[str]]:
    """The zygote's uid as it sees it, and the steps that it has done."""
    message, _ = descriptors.receive(zygote)
    if "born" not in message:
        raise OSError("the zygote could not be made: {}".format(message.get("failed")))
    return message["born"], message["steps"]  # type: ignore[return-value]  # our own, and no guest lives yet


def complain(what: str, error: BaseException) -> None:
    """Tell the operator, on the service's stderr. Nothing that a guest said comes here."""
    os.write(2, (f"{what}: {type(error).__name__}: {error}\n").encode())
