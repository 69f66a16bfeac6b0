"""The child: forked and fully locked down before the request comes, then runs one program.

    arm()       everything that needs no request: descriptors, environment, limits, filters
    _receive()  waits for the request, and turns this process into the program's

Nothing of a request is seen before the last filter is in place. What led to it has returned by then: to give up its
frames, and what they held, costs more than most programs (`benchmarks/README.md`).
"""

from __future__ import annotations

import gc
import json
import os
import posix
import random
import signal
import sys
import threading
import time

from sandbox_runtime import command_line, descriptors, kernel, landlock, program, rlimits, seccomp, shadows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, NoReturn

    from sandbox_runtime.lockdown import Lockdown

ARMED = b"A"
"""First byte of the message that says that the child is armed; the rest is JSON."""

ENDED = b"D"
"""First byte of the last message: the exit status in decimal, a space, the limits that were met, with commas."""

COLD = "warm_program"
"""Left out by the differential test alone: the child then becomes a fresh interpreter for every program."""

NICENESS = 19
SEED_BYTES = 32
OOM_SCORE = b"1000"
CALL_FAILED = 70
"""Exit status when the child could not be armed (EX_SOFTWARE of sysexits.h). No program has run."""


SHELL = "/bin/bash"
NO_SHELL = 127
"""As a shell says it of a command that is not there."""


class Order:
    """What the supervisor sends when it wants a child: the child's ends of five pipes, and limits."""

    __slots__ = ("request", "stdin", "stdout", "stderr", "control", "limits", "groups", "session", "loopback")
    names = ("request", "stdin", "stdout", "stderr", "control")

    def __init__(
        self, own: list[int], limits: dict[str, int], groups: list[int] | None, session: bool, loopback: bool
    ) -> None:
        self.request, self.stdin, self.stdout, self.stderr, self.control = own
        self.limits = limits
        self.groups = groups
        """cgroup.procs files, open for writing: the child enters these. None: its container has one."""
        self.session = session
        """It shares the sandbox with what other calls left: it may signal and talk to that."""
        self.loopback = loopback
        """It may use IP sockets."""


class Places:
    """Paths in the sandbox, and the system that the filters are for. Known before the first request."""

    __slots__ = ("writable", "readable", "files", "environment", "python", "filters", "bare_modules", "cold")

    def __init__(
        self,
        environment: dict[str, str],
        python: str,
        filters: seccomp.Filters,
        bare_modules: frozenset[str],
        cold: bool,
    ) -> None:
        self.writable = [program.WORKSPACE, "/tmp", "/dev/shm"]  # noqa: S108  # the sandbox's own mounts
        self.readable = ["/"]
        self.files = [(path, landlock.WRITABLE_FILE) for path in ("/dev/null", "/dev/zero", "/dev/full")]
        # The template was started before the root was built: /proc/self/exe leads to a mount that is not below "/".
        self.files.append((os.path.realpath(python), landlock.EXECUTE | landlock.READ_FILE))
        self.environment = environment
        self.python = python
        self.filters = filters
        self.bare_modules = bare_modules
        """What this Python had loaded before its first line."""
        self.cold = cold
        """See `COLD`."""


def arm(order: Order, places: Places, lockdown: Lockdown) -> program.Program:
    """Lock this process down, and say so. What is returned waits for the request when it is run."""
    try:
        return _arm(order, places, lockdown)
    except OSError as error:
        _say(order.control, ARMED + json.dumps({"failed": str(error)}).encode())
        os._exit(CALL_FAILED)


def _arm(order: Order, places: Places, lockdown: Lockdown) -> program.Program:
    lockdown.step("own_session", os.setsid)
    groups = order.groups
    if groups is not None:
        lockdown.step("control_group", lambda: _enter(groups))
    # SECURITY: whatever the zygote had open (its socket to the supervisor first of all) would let a
    # program arm children of its own (tests/hostile/test_steps.py).
    lockdown.step("descriptors", lambda: _take_descriptors(order))
    if not lockdown.wants("descriptors"):
        _place(order)
    _default_signals()
    os.chdir(program.WORKSPACE)
    os.umask(0o022)
    lockdown.step("environment", lambda: _set_environment(places))
    _forget_the_past()
    _lock(order, places, lockdown)
    armed = _prepare(order, places)
    _say(order.control, ARMED + json.dumps({"applied": lockdown.applied, "missing": lockdown.missing}).encode())
    return armed


def _lock(order: Order, places: Places, lockdown: Lockdown) -> None:
    os.nice(NICENESS)
    lockdown.step("no_new_privileges", kernel.set_no_new_privs)
    lockdown.step("rlimits", lambda: _limit(order.limits, has_own_uid=order.groups is not None))
    lockdown.step("seccomp", lambda: seccomp.install(places.filters.of(order.loopback)))
    # A program must own its /proc/self, which is root's while a process is not dumpable. SECURITY: not before the
    # filter: where Landlock is missing, what an earlier call of a session left could take it over without one.
    kernel.set_dumpable(True)
    _volunteer_for_the_oom_killer()
    lockdown.step("landlock", lambda: _restrict(order, places))


def _restrict(order: Order, places: Places) -> None:
    # Each call of a session is a domain of its own: scoped, it could not end the server that the last one started.
    # SECURITY: zygote and supervisor stay protected from it by the filter, which names them.
    landlock.restrict(
        landlock.prepare(
            places.readable, places.writable, places.files, scoped=not order.session, networked=order.loopback
        )
    )


OUR_PROCESSES = 2
"""The zygote and the supervisor have the program's uid, and the kernel counts them with its processes."""

MARGIN_PROCESSES = 1
"""The cgroup must be the first to refuse: it counts refusals, which is how the supervisor hears of a fork bomb."""


def _limit(limits: dict[str, int], has_own_uid: bool) -> None:
    # A sixteenth less than where the memory watch ends the run: what a process copies of the zygote's pages
    # counts there and not here, and a MemoryError must come before the end.
    rlimits.apply(
        open_files=limits["open_files"],
        file_size_bytes=limits["file_bytes"],
        # In a container the kernel would count a uid's processes in all pods of the node: the supervisor counts.
        processes=limits["processes"] + OUR_PROCESSES + MARGIN_PROCESSES if has_own_uid else None,
        data_bytes=limits["memory_bytes"] * 15 // 16,
    )


def _enter(groups: list[int]) -> None:
    if not groups:
        raise OSError("no cgroup was given to this sandbox")
    for group in groups:
        os.write(group, b"0")


def _take_descriptors(order: Order) -> None:
    _place(order)
    descriptors.close_all_but([0, 1, 2, order.request, order.control])


def _place(order: Order) -> None:
    """Standard streams to 0-2, the other two out of the way of the program's own numbers."""
    high = order.limits["open_files"] - 1
    control, request = high, high - 1
    for source, target in ((order.control, control), (order.request, request)):
        os.dup2(source, target, False)
    for source, target in ((order.stdin, 0), (order.stdout, 1), (order.stderr, 2)):
        os.dup2(source, target, True)
    order.control, order.request = control, request


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not None:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As Python starts: a broken pipe and a file too large are exceptions, not deaths.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _set_environment(places: Places) -> None:
    os.environ.clear()
    os.environ.update(places.environment)


def _forget_the_past() -> None:
    """What was remembered before the fork and is not so any more."""
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # `fork` leaves the zygote's
    # Randomness that was seeded before the fork would be the same in every run.
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(None)
    ssl: Any = sys.modules.get("ssl")
    if ssl is not None:
        # SECURITY: OpenSSL notices a fork by the pid, and in another PID namespace ours may be the template's.
        ssl.RAND_add(os.urandom(SEED_BYTES), SEED_BYTES)


def _volunteer_for_the_oom_killer() -> None:
    try:
        with open("/proc/self/oom_score_adj", "wb", 0) as score:
            score.write(OOM_SCORE)
    except OSError:  # helps where it works; the memory watch is the protection
        return


def _prepare(order: Order, places: Places) -> program.Program:
    """Do now, off the clock, what the program's start would do."""
    sys.executable = places.python
    sys.path.insert(0, program.WORKSPACE)
    program.open_standard_streams()
    _rehearse()
    gc.enable()
    own, control = os.getpid(), order.control
    return program.Program(
        lambda: _receive(order, places),
        lambda status, hit: _report(own, control, status, hit),
    )


def _rehearse() -> None:
    """Memory that this process writes to for the first time is copied from the zygote's, page by page: a third of the
    time of a short program."""
    json.loads('{"args": [], "env": {}, "echo": true}')
    program.compiled(b"import io\nlen('x')\n1\n", True)
    gc.collect()


def _say(control: int, message: bytes) -> None:
    try:
        posix.write(control, message)
    except OSError:  # the program closed or broke it, or the supervisor is gone: the exit status says the rest
        return


def _receive(order: Order, places: Places) -> list[CodeType]:
    """Turn this process into the program's, once there is one. For one that cannot be compiled it becomes the
    interpreter itself, whose SyntaxError is right to the letter."""
    words = descriptors.read_all(order.request)
    if not words:  # nobody has one for us any more
        os._exit(0)
    request = json.loads(words)
    if "shell" in request:
        _become_a_shell(request["shell"], request["env"])
    _start_the_clock_of_logging()
    _take_variables(request["env"])
    sys.argv = [program.PATH, *request["args"]]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, *sys.argv]
    if places.cold:
        _become_the_interpreter()
    command_line.show([sys.executable, *sys.argv])
    shadows.make_way(program.WORKSPACE, places.bare_modules)
    return _compiled(request["echo"])


def _become_a_shell(command: str, variables: dict[str, str]) -> NoReturn:
    os.environ.update(variables)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is exec'd would go on to
        signal.signal(number, signal.SIG_DFL)
    try:
        _become(SHELL, [os.path.basename(SHELL), "-c", command])
    except OSError as error:
        os.write(2, f"{SHELL}: {error.strerror}\n".encode())
        os._exit(NO_SHELL)


def _take_variables(variables: dict[str, str]) -> None:
    os.environ.update(variables)
    if "TZ" in variables:
        time.tzset()
    if "PYTHONPATH" in variables:
        sys.path[1:1] = [os.path.abspath(path) for path in variables["PYTHONPATH"].split(os.pathsep)]


def _start_the_clock_of_logging() -> None:
    """`relativeCreated` counts from the import of `logging`; Python 3.13 counts in nanoseconds."""
    logging: Any = sys.modules.get("logging")
    if logging is not None:
        logging._startTime = time.time_ns() if isinstance(logging._startTime, int) else time.time()


def _compiled(echo: bool) -> list[CodeType]:
    with open(program.PATH, "rb") as file:
        source = file.read()
    try:
        return program.compiled(source, echo)
    except BaseException:  # SyntaxError, ValueError (NUL), RecursionError, MemoryError, a warning made an error
        _become_the_interpreter()


def _become_the_interpreter() -> NoReturn:
    _become(sys.executable, [sys.executable, *sys.argv])


def _become(file: str, words: list[str]) -> NoReturn:
    """Raises OSError where it cannot."""
    for descriptor in (0, 1, 2):
        os.set_inheritable(descriptor, True)
    os.execv(file, words)  # noqa: S606  # the program's own, in the sandbox


def _report(own: int, control: int, status: int, hit: list[str]) -> None:
    # A program that forked and went on to its end in both processes ends twice; one of them is it.
    if posix.getpid() == own:
        _say(control, ENDED + b"%d %s" % (status, ",".join(hit).encode()))
