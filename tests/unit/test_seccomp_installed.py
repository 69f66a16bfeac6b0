"""The filter in the kernel that this is: what it stops, with the same calls going through where it is not installed."""

from __future__ import annotations

import errno
import platform
import signal

import pytest

from tests.unit import confined

as_each = pytest.mark.parametrize("identity", confined.IDENTITIES)

ATTACKS = """
    victim = sleeper()
    kernel.set_no_new_privs()
    if arguments[0]:
        seccomp.install(seccomp.build(os.uname().machine, [os.getpid(), victim]))
    path = f"/proc/self/fd/{os.memfd_create('file')}"
    file = os.open(path, os.O_RDWR)
    folder = os.open("/", os.O_RDONLY)
    ours, theirs = socket.socketpair()
    info = ctypes.create_string_buffer(128)
    info[8:12] = (-1).to_bytes(4, "little", signed=True)  # si_code SI_QUEUE
    cpus = sum(1 << cpu for cpu in os.sched_getaffinity(victim)).to_bytes(128, "little")
    limits = ctypes.create_string_buffer(16)
    answer({
        "kill": attempt(os.kill, victim, 0),
        "kill all": attempt(os.kill, -1, 0),
        "tkill": raw("tkill", victim, 0),
        "tgkill": raw("tgkill", victim, victim, 0),
        "rt_sigqueueinfo": raw("rt_sigqueueinfo", victim, 0, info),
        "rt_tgsigqueueinfo": raw("rt_tgsigqueueinfo", victim, victim, 0, info),
        "pidfd_open": attempt(kernel.pidfd_open, victim),
        "prlimit64": raw("prlimit64", victim, 7, 0, limits),
        "sched_setaffinity": raw("sched_setaffinity", victim, 128, cpus),
        "setpriority": attempt(os.setpriority, os.PRIO_PROCESS, victim, 10),
        "F_SETOWN": attempt(fcntl.fcntl, file, seccomp_rules.F_SETOWN, victim),
        "F_SETSIG": attempt(fcntl.fcntl, file, seccomp_rules.F_SETSIG, signal.SIGKILL),
        "F_NOTIFY": attempt(fcntl.fcntl, folder, seccomp_rules.F_NOTIFY, 0),
        "FIOSETOWN": attempt(fcntl.ioctl, ours, seccomp_rules.FIOSETOWN, victim.to_bytes(4, "little")),
        "AF_INET": attempt(socket.socket, socket.AF_INET),
        "AF_NETLINK": attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
        "personality": raw("personality", 0x0040000),
        "ptrace": raw("ptrace", 0x4206, victim, 0, 0),
        "shmget": raw("shmget", 0x7A57, 0, 0),
        "mq_open": raw("mq_open", b"nobody's", 0, 0, 0),
        "clone3": raw("clone3", 0, 0),
    })
    os._exit(0)
"""

# Without the filter; the last are asked for what is not there.
REACHABLE = dict.fromkeys(
    (
        *("kill", "kill all", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "prlimit64"),
        *("sched_setaffinity", "setpriority", "F_SETOWN", "F_SETSIG", "F_NOTIFY", "FIOSETOWN"),
        *("AF_INET", "AF_NETLINK", "personality", "ptrace"),
    ),
    "done",
)
REACHABLE |= {"shmget": "ENOENT", "mq_open": "ENOENT", "clone3": "EINVAL"}
DENIED = dict.fromkeys(REACHABLE, "EPERM") | {"AF_INET": "EACCES", "AF_NETLINK": "EACCES", "clone3": "ENOSYS"}

HONEST = """
    kernel.set_no_new_privs()
    seccomp.install(seccomp.build(os.uname().machine, [1, os.getppid()]))
    file = os.memfd_create("file")
    path = f"/proc/self/fd/{file}"
    os.write(file, b"x" * 100)
    thread = threading.Thread(target=lambda: None)
    child = sleeper()
    here, there = socket.socketpair()
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"\\0confined-{os.getpid()}")
    server.listen()
    record = bytes(32)  # struct flock: F_RDLCK, the whole file
    answer({
        "thread": attempt(lambda: (thread.start(), thread.join())),
        "program": subprocess.run(["/bin/sh", "-c", "exit 3"]).returncode,
        "shell": subprocess.run("exit 4", shell=True).returncode,
        "flock": attempt(fcntl.flock, file, fcntl.LOCK_EX),
        "lockf": attempt(fcntl.lockf, file, fcntl.LOCK_EX),
        "unlock": attempt(fcntl.lockf, file, fcntl.LOCK_UN),
        "F_OFD_SETLK": attempt(fcntl.fcntl, file, 37, record),
        "sendfile": os.sendfile(there.fileno(), file, 0, 10),
        "connect": attempt(socket.socket(socket.AF_UNIX).connect, server.getsockname()),
        "pidfd_open": attempt(kernel.pidfd_open, child),
        "kill": attempt(os.kill, child, signal.SIGKILL),
        "wait": os.waitpid(child, 0)[1],
        "personality": raw("personality", 0xFFFFFFFF),
        "nice": attempt(os.nice, 1),
    })
"""


@as_each
def test_attacks_go_through_without_the_filter(identity: int | None):
    assert confined.answer_of(ATTACKS, False, identity=identity) == REACHABLE


@as_each
def test_the_filter_stops_them(identity: int | None):
    assert confined.answer_of(ATTACKS, True, identity=identity) == DENIED


@as_each
def test_honest_programs_notice_nothing(identity: int | None):
    answer = confined.answer_of(HONEST, identity=identity)
    numbers = {"program": 3, "shell": 4, "sendfile": 10, "wait": signal.SIGKILL}
    assert answer == dict.fromkeys(answer, "done") | numbers


@as_each
def test_each_call_that_is_denied_whole_gets_its_error(identity: int | None):
    # The arguments mean nothing, so that the call would fail in another way where the filter let it through.
    source = """
        kernel.set_no_new_privs()
        seccomp.install(seccomp.build(os.uname().machine, [1]))
        whole = [rule for rule in seccomp_rules.RULES if rule.argument is None]
        present = syscall_numbers.table(os.uname().machine)
        answer({
            call: [raw(call, *[-1] * 6), errno.errorcode.get(rule.error, "done")]
            for rule in whole for call in rule.calls if call in present
        })
    """
    answers = confined.answer_of(source, identity=identity)
    assert len(answers) > 60
    assert {call: pair for call, pair in answers.items() if pair[0] != pair[1]} == {}


@as_each
def test_namespaces_are_out_of_reach_for_clone_and_unshare(identity: int | None):
    source = """
        if arguments[0]:
            kernel.set_no_new_privs()
            seccomp.install(seccomp.build(os.uname().machine, [1]))
        def cloned():
            pid = kernel.system_call("clone", "clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
            pid or os._exit(0)
        answer([attempt(cloned), attempt(namespaces.unshare, namespaces.CLONE_NEWUSER)])
    """
    assert confined.answer_of(source, False, identity=identity) == ["done", "done"]
    assert confined.answer_of(source, True, identity=identity) == ["EPERM", "EPERM"]


@as_each
def test_it_does_not_install_without_no_new_privs_or_a_capability(identity: int | None):
    source = """
        capabilities.clear()
        try:
            seccomp.install(seccomp.build(os.uname().machine, [1]))
        except OSError as error:
            answer([error.errno, str(error)])
    """
    number, text = confined.answer_of(source, identity=identity)
    assert number == 13
    assert "instructions (needs no_new_privs or CAP_SYS_ADMIN): Permission denied" in text


@as_each
def test_kill_takes_a_threads_id_so_that_must_be_protected_too(identity: int | None):
    source = """
        ready, tell = os.pipe()
        victim = os.fork()
        if victim == 0:
            def thread():
                os.write(tell, str(threading.get_native_id()).encode())
                time.sleep(60)
            threading.Thread(target=thread).start()
            time.sleep(60)
        thread_id = int(os.read(ready, 20))
        before = [attempt(os.kill, thread_id, 0), raw("setpriority", 0, thread_id, 10)]
        kernel.set_no_new_privs()
        child = os.fork()
        if child == 0:
            seccomp.install(seccomp.build(os.uname().machine, [victim, thread_id]))
            answer([before, [attempt(os.kill, thread_id, 0), raw("setpriority", 0, thread_id, 11)]])
            os._exit(0)
        os.waitpid(child, 0)
        os.kill(victim, signal.SIGKILL)
    """
    assert confined.answer_of(source, identity=identity) == [["done", "done"], ["EPERM", "EPERM"]]


def test_a_thread_that_was_there_before_is_filtered_too():
    source = """
        told = threading.Event()
        tried = []
        def late():
            told.wait(10)
            tried.append(attempt(os.kill, 1, 0))
        thread = threading.Thread(target=late)
        thread.start()
        kernel.set_no_new_privs()
        capabilities.clear()
        seccomp.install(seccomp.build(os.uname().machine, [1, os.getpid()]))
        told.set()
        thread.join()
        answer([*tried, attempt(os.kill, os.getpid(), 0)])
    """
    assert confined.answer_of(source) == ["EPERM", "EPERM"]


def test_a_program_that_the_filter_was_not_made_for_can_do_nothing():
    source = """
        other = {"x86_64": "aarch64", "aarch64": "x86_64"}[os.uname().machine]
        kernel.set_no_new_privs()
        seccomp.install(seccomp.build(other, [1]))
        answer("still here")
    """
    finished = confined.start(source)
    assert finished.returncode < 0  # it cannot even exit
    assert finished.stdout == finished.stderr == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has x32 and int 0x80")
def test_x32_is_refused():
    source = """
        kernel.set_no_new_privs()
        seccomp.install(seccomp.build("x86_64", [1]))
        answer([raw("getpid", number=0x40000000 | 39), raw("x32 execve", 0, 0, 0, number=520)])
    """
    assert confined.answer_of(source) == ["ENOSYS", "ENOSYS"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has x32 and int 0x80")
def test_int_0x80_is_refused():
    # mov eax, 20 (getpid, where 32-bit programs are served); int 0x80; ret
    source = """
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("b814000000 cd80 c3"))
        function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        kernel.set_no_new_privs()
        seccomp.install(seccomp.build("x86_64", [1]))
        answer(-function())
    """
    finished = confined.start(source)
    # SIGSEGV where the kernel serves no 32-bit programs: it is refused there before the filter is asked.
    assert finished.returncode == -signal.SIGSEGV or finished.stdout == f"{errno.ENOSYS}\n"
