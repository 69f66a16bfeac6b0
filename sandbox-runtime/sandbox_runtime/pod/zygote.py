"""PID 1 of a container: loads the libraries, then forks children for whichever supervisor comes.

    loading ── listens ──▶ a supervisor connects ── orders ──▶ … ── it goes ──▶ all are killed ── listens ──▶ …

SECURITY: the same rules as any zygote (`sandbox_runtime/zygote.py`), and one more: SIGTERM ends it only when it came
from outside the container, and while no program runs (`kubectl drain` lets the running one finish).
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import time

from sandbox_runtime import (
    child,
    command_line,
    guests,
    kernel,
    places,
    pod,
    preload,
    program,
    rlimits,
    seccomp,
    template_memory,
    variables,
    zygote,
)
from sandbox_runtime.lockdown import Lockdown
from sandbox_runtime.pod import names
from sandbox_runtime.polling import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    Facts = dict[str, object]

SIGNAL_RECORD_BYTES = 128
SENDER_OFFSET = 12
"""Of ssi_pid in struct signalfd_siginfo; 0 for a sender outside of our PID namespace."""

PRELOAD_FAILED = 70


def main(facts: Facts, bare_modules: frozenset[str]) -> program.Program:
    """Serve for the container's life. Returns in the children only, with the program that they are to run."""
    places.lay_out_tmp(pod.FONT_LISTS)
    try:
        loaded = preload.load(_words(facts["preload"]), [*preload.STANDARD, *_words(facts["preload_if_there"])])
    except preload.PreloadFailed as error:
        sys.stderr.write(f"{error}\n")  # the kubelet keeps it as the container's last word
        os._exit(PRELOAD_FAILED)
    rlimits.limit_stack(rlimits.MAIN_STACK_BYTES)
    command_line.find()
    command_line.show([pod.TITLE, "zygote"])
    template_memory.gather()
    template_memory.let_go_of_code()
    kernel.set_dumpable(False)
    serving = PodZygote(facts, [name for name in loaded if name not in preload.STANDARD], bare_modules)
    _forget_ourselves()
    return serving.program()


def _words(value: object) -> list[str]:
    return list(value)  # type: ignore[call-overload, no-any-return]  # from the pod's manifest, which is ours


class PodZygote(zygote.Zygote):
    """A zygote without a supervisor of its own: one comes, and after it another."""

    def __init__(self, facts: Facts, loaded: list[str], bare_modules: frozenset[str]) -> None:
        super().__init__(groups=None)
        self._facts = {"limits": facts["limits"], "preloaded": loaded, "cleans": pod.FONT_LISTS}
        self._bare_modules, self._is_cold = bare_modules, child.COLD in _words(facts.get("left_out", ()))
        self._lockdown = Lockdown(frozenset(_words(facts.get("left_out", ()))))
        _note_what_the_container_did(self._lockdown)
        self._runs = 0
        self._is_busy = self._is_ending = False

    def program(self) -> program.Program:
        """Serve; in a child, the program that it is to run."""
        order = self.serve()
        # A socket closes its number when it dies, whoever has that number then: a program, as a rule.
        self._supervisor.detach()
        self._door.detach()
        self._lockdown.did("supervisor_not_dumpable")
        return child.arm(order, self._places, self._lockdown)

    def _open(self, loop: Loop) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        self._terminations = kernel.signalfd([signal.SIGTERM])
        loop.on(self._terminations, self._be_told_to_end)
        self._door = names.bound(pod.ZYGOTE_NAME, socket.SOCK_SEQPACKET)
        self._listen()

    def _listen(self) -> None:
        self._door.listen(1)
        self._loop.on(self._door.fileno(), self._let_in)

    def _let_in(self) -> None:
        connection, pid = names.accepted(self._door)
        if connection is None:
            return
        self._loop.off(self._door.fileno())
        self._door = names.rebound(self._door, pod.ZYGOTE_NAME, socket.SOCK_SEQPACKET)
        self._supervisor = connection
        self._places = self._places_for(pid)
        self._tell({**self._facts, "runs": self._runs})
        self._loop.on(connection.fileno(), self._obey)

    def _places_for(self, supervisor: int) -> child.Places:
        return child.Places(
            environment=variables.of_programs(sys.executable),
            python=sys.executable,
            filters=seccomp.Filters(platform.machine(), (1, supervisor)),
            bare_modules=self._bare_modules,
            cold=self._is_cold,
        )

    def _obeyed(self, message: dict[str, object]) -> bool:
        """What is no order for a child: whether a program runs."""
        if "busy" not in message:
            return False
        self._is_busy = bool(message["busy"])
        self._runs += self._is_busy
        if self._is_ending and not self._is_busy:
            zygote.leave()
        return True

    def _lose(self) -> None:
        """The supervisor has gone. Whatever it left is killed before another may come."""
        if self._is_busy:
            zygote.leave()  # its program's outcome is lost, and so is the sandbox
        self._loop.off(self._supervisor.fileno())
        self._supervisor.close()
        self._children.clear()
        while guests.living():
            guests.kill_all()
            self._deaths.reap_all()
            time.sleep(0.0003)
        self._listen()

    def _be_told_to_end(self) -> None:
        record = os.read(self._terminations, SIGNAL_RECORD_BYTES)
        if int.from_bytes(record[SENDER_OFFSET : SENDER_OFFSET + 4], sys.byteorder) != 0:
            return
        if not self._is_busy:
            zygote.leave()
        self._is_ending = True


def _note_what_the_container_did(lockdown: Lockdown) -> None:
    """Seen from inside, and not believed: what cannot be seen is not told."""
    with open("/proc/self/status") as status:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    seen = {
        "pid_namespace": os.getpid() == 1,
        "read_only_root": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "no_capabilities": not any(int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd")),
        "no_new_privileges": fields.get("NoNewPrivs") == "1",
        "own_uid": os.getuid() != 0,
        "zygote_not_dumpable": not kernel.is_dumpable(),
    }
    lockdown.did(*(name for name, is_so in seen.items() if is_so))


def _forget_ourselves() -> None:
    """A program that imports its own `sandbox_runtime` must not get ours."""
    for name in [name for name in sys.modules if name.split(".")[0] == "sandbox_runtime"]:
        del sys.modules[name]
