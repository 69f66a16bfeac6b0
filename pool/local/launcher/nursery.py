"""The nursery: PID 1 of the launcher's namespace. Forks supervisors, starts and reaps everything.

An exec'd Python costs 17-44 ms of CPU; a fork of this small process costs 2.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket

from launcher import birth

from sandbox_runtime import descriptors, kernel, namespaces, supervisor
from sandbox_runtime.lockdown import Lockdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIGNALFD_RECORD_BYTES = 128

THREAD_STACK_BYTES = 2 * 2**20
"""The C library gives every thread the stack limit of the moment when a process is exec'd, 8 MiB as a rule, and
all of it counts against a program's memory (RLIMIT_DATA): 31 idle threads would be too many. Less than 1 MiB
would overflow in honest recursions; the template raises the limit again for main threads."""


def main(facts: dict[str, object], left_out: frozenset[str]) -> NoReturn:
    """Serve `supervise` and `template` orders until the service closes its end."""
    kernel.set_parent_death_signal(signal.SIGKILL)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("proc", "/proc", "proc", namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC)
    _start_science(facts, facts["science_control"])  # type: ignore[arg-type]  # from the service
    kernel.set_dumpable(False)
    gc.collect()
    gc.freeze()
    gc.disable()
    control = socket.socket(fileno=facts["nursery_control"])  # type: ignore[arg-type]
    Nursery(control, Lockdown(left_out), bool(facts["as_root"]), facts).serve()


def _start_science(facts: dict[str, object], control: int) -> None:
    """Exec a template with the programs' libraries. Its environment is the one that programs see."""
    if os.fork() == 0:
        try:
            descriptors.close_all_but([0, 1, 2, control])
            os.set_inheritable(control, True)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            limit_stack(THREAD_STACK_BYTES)
            arguments: list[str] = [*facts["science_command"], str(control)]  # type: ignore[misc]
            os.execve(arguments[0], arguments, facts["science_environment"])  # type: ignore[arg-type]
        except BaseException as error:  # a fork must not fall back into the nursery's loop
            complain("the template could not be started", error)
        finally:
            os._exit(127)
    os.close(control)


class Nursery:
    """Answers orders one after the other."""

    def __init__(self, control: socket.socket, lockdown: Lockdown, as_root: bool, facts: dict[str, object]) -> None:
        self._control, self._lockdown, self._as_root, self._facts = control, lockdown, as_root, facts
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        deaths = kernel.signalfd([signal.SIGCHLD])
        poll = select.poll()
        poll.register(deaths, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if deaths in ready:
                os.read(deaths, 16 * _SIGNALFD_RECORD_BYTES)
                reap()
            if self._control.fileno() in ready:
                self._obey()

    def _obey(self) -> None:
        try:
            order, own = descriptors.receive(self._control)
        except OSError:
            os._exit(0)
        if order["do"] == "template":
            _start_science(self._facts, own[0])
            descriptors.send(self._control, {"done": "template"})
        else:
            self._supervise(order, own)

    def _supervise(self, order: dict[str, object], own: list[int]) -> None:
        """Fork a supervisor into the sandbox whose PID 1 is behind the first descriptor."""
        try:
            namespaces.setns(own[0], namespaces.CLONE_NEWPID)
            pid = os.fork()
        except OSError as error:
            pid = -1
            descriptors.send(self._control, {"failed": str(error)})
        if pid == 0:
            self._become_supervisor(order, own)
        namespaces.setns(self._own_pids, namespaces.CLONE_NEWPID)
        for descriptor in own:
            os.close(descriptor)
        if pid > 0:
            descriptors.send(self._control, {"done": "supervise"})

    def _become_supervisor(self, order: dict[str, object], own: list[int]) -> NoReturn:
        try:
            sandbox, channel, zygote = own[:3]
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            descriptors.close_all_but([0, 1, 2, *own])
            socket_to_zygote = socket.socket(fileno=zygote)
            _hear_of_birth(socket_to_zygote)
            birth.join(sandbox, self._as_root, self._lockdown)
            facts = dict(order, gauges=dict(zip(order["gauges"], own[3:])))
            supervisor.Supervisor(channel, socket_to_zygote, facts).serve()
        except BaseException as error:  # a fork must not fall back into the nursery's loop
            complain("a supervisor could not be started", error)
        finally:
            os._exit(70)


def _hear_of_birth(zygote: socket.socket) -> None:
    message, _ = descriptors.receive(zygote)
    if "born" not in message:
        raise OSError("the zygote could not be made: {}".format(message.get("failed")))


def limit_stack(soft_bytes: int) -> None:
    """Set the soft limit of the stack, within the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    allowed = soft_bytes if hard == resource.RLIM_INFINITY else min(soft_bytes, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (allowed, hard))


def complain(what: str, error: BaseException) -> None:
    """Tell the operator, on the service's stderr. Nothing that a guest said comes here."""
    os.write(2, (f"{what}: {type(error).__name__}: {error}\n").encode())


def reap() -> None:
    """Collect all dead children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
