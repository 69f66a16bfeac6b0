"""The program has the uid of the processes that watch it, and must not lay a hand on them."""

from __future__ import annotations

import stat

import pytest

from sandbox_runtime import wire
from tests.fakes.supervisor import outcome
from tests.hostile.attack import answer_of, run
from tests.sandboxes import Sandboxes


def test_no_signal_reaches_zygote_or_supervisor(boxes: Sandboxes):
    source = """
        signals = (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, 0)
        targets = (-1, ZYGOTE, SUPERVISOR, -SUPERVISOR, os.getppid())
        info = ctypes.create_string_buffer(128)
        info[8:12] = (-1).to_bytes(4, "little", signed=True)  # si_code SI_QUEUE
        found = {attempt(os.kill, target, number) for target in targets for number in signals}
        for pid in (ZYGOTE, SUPERVISOR):
            found |= {raw("tkill", pid, 9), raw("tgkill", pid, pid, 9)}
            found |= {raw("rt_sigqueueinfo", pid, 9, info), raw("rt_tgsigqueueinfo", pid, pid, 9, info)}
        answer(sorted(found))
    """
    assert answer_of(boxes, source) == ["EPERM"]


def test_no_pid_is_spelled_so_that_the_filter_misses_it(boxes: Sandboxes):
    # The kernel takes 32 bits of a register of 64: what the filter compares must be the same ones.
    source = """
        spellings = [SUPERVISOR + (1 << 32), SUPERVISOR - (1 << 32), SUPERVISOR + (0xFFFFFFFF << 32)]
        answer([raw("kill", pid, 9) for pid in spellings] + [raw("tkill", pid, 9) for pid in spellings])
    """
    assert answer_of(boxes, source) == ["EPERM"] * 6


def test_the_kernel_sends_no_signal_on_the_programs_behalf(boxes: Sandboxes):
    source = """
        F_SETSIG, F_SETOWN_EX, F_NOTIFY, FIOSETOWN, SIOCSPGRP = 10, 15, 1026, 0x8901, 0x8902
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair()
        pid = SUPERVISOR.to_bytes(4, "little")
        answer({
            "F_SETOWN": attempt(fcntl.fcntl, reading, fcntl.F_SETOWN, SUPERVISOR),
            "F_SETOWN group": attempt(fcntl.fcntl, reading, fcntl.F_SETOWN, -SUPERVISOR),
            "F_SETOWN_EX": attempt(fcntl.fcntl, reading, F_SETOWN_EX, bytes(4) + pid),
            "F_SETSIG": attempt(fcntl.fcntl, reading, F_SETSIG, signal.SIGKILL),
            "F_NOTIFY": attempt(fcntl.fcntl, os.open("/workspace", os.O_RDONLY), F_NOTIFY, 1),
            "F_SETLEASE": attempt(fcntl.fcntl, os.open("/workspace/__main__.py", os.O_RDONLY), fcntl.F_SETLEASE, 0),
            "FIOSETOWN": attempt(fcntl.ioctl, ours, FIOSETOWN, pid),
            "SIOCSPGRP": attempt(fcntl.ioctl, ours, SIOCSPGRP, pid),
        })
    """
    answer = answer_of(boxes, source)
    assert answer == dict.fromkeys(answer, "EPERM")


def test_no_handle_on_them_can_be_had_or_used(boxes: Sandboxes):
    source = """
        folder = os.open(f"/proc/{SUPERVISOR}", os.O_RDONLY)
        own = os.pidfd_open(os.getpid())
        answer({
            "pidfd_open zygote": attempt(os.pidfd_open, ZYGOTE),
            "pidfd_open supervisor": attempt(os.pidfd_open, SUPERVISOR),
            "a folder of /proc as a handle": attempt(signal.pidfd_send_signal, folder, signal.SIGKILL),
            "even one's own": attempt(signal.pidfd_send_signal, own, 0),
            "pidfd_getfd": raw("pidfd_getfd", own, 0, 0),
        })
    """
    answer = answer_of(boxes, source)
    assert answer == dict.fromkeys(answer, "EPERM")


def test_their_memory_cannot_be_traced_read_or_freed(boxes: Sandboxes):
    source = """
        PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
        buffer = ctypes.create_string_buffer(8)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
        answer(sorted({
            found for pid in (ZYGOTE, SUPERVISOR) for found in (
                raw("ptrace", PTRACE_ATTACH, pid, 0, 0),
                raw("ptrace", PTRACE_SEIZE, pid, 0, 0),
                raw("process_vm_readv", pid, vector, 1, vector, 1, 0),
                raw("process_vm_writev", pid, vector, 1, vector, 1, 0),
                raw("kcmp", pid, os.getpid(), 1, 0, 0),
                raw("move_pages", pid, 0, 0, 0, 0, 0),
                raw("migrate_pages", pid, 1, vector, vector),
            )
        }))
    """
    assert answer_of(boxes, source) == ["EPERM"]


@pytest.mark.parametrize("whose", ["ZYGOTE", "SUPERVISOR"])
def test_their_files_in_proc_stay_closed(boxes: Sandboxes, whose: str):
    source = """
        pid = {"ZYGOTE": ZYGOTE, "SUPERVISOR": SUPERVISOR}[sys.argv[1]]
        here = f"/proc/{pid}/"
        threads = f"{here}task/{pid}/"
        reading = ["mem", "environ", "maps", "smaps", "smaps_rollup", "auxv", "pagemap", "io", "stack", "syscall"]
        reading = [folder + name for folder in (here, threads) for name in reading if os.path.exists(folder + name)]
        writing = ["mem", "oom_score_adj", "clear_refs", "coredump_filter", "comm", "uid_map", "timerslack_ns"]
        links = ("exe", "cwd", "root", "fd/0", "ns/mnt")
        answer({
            "read": sorted({attempt(open, path, "rb") for path in reading}),
            "written": sorted({attempt(open, here + name, "r+b") for name in writing if os.path.exists(here + name)}),
            "listed": sorted({attempt(os.listdir, here + name) for name in ("fd", "fdinfo", "map_files")}),
            "followed": sorted({attempt(os.readlink, here + name) for name in links}),
        })
    """
    found = answer_of(boxes, source, whose)
    assert {error for errors in found.values() for error in errors} <= {"EACCES", "EPERM"}


def test_their_limits_and_priorities_stay_as_they_are(boxes: Sandboxes):
    source = """
        def state():
            words = [open(f"/proc/{pid}/limits").read() for pid in (ZYGOTE, SUPERVISOR)]
            numbers = [os.getpriority(os.PRIO_PROCESS, pid) for pid in (ZYGOTE, SUPERVISOR)]
            return [*words, *numbers, *[sorted(os.sched_getaffinity(pid)) for pid in (ZYGOTE, SUPERVISOR)]]
        before = state()
        tiny = (ctypes.c_uint64 * 2)(0, 0)
        parameter = (ctypes.c_int * 1)(0)
        found = set()
        for pid in (ZYGOTE, SUPERVISOR):
            found |= {raw("prlimit64", pid, kind, tiny, 0) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}
            found |= {attempt(os.setpriority, kind, pid, 19) for kind in (os.PRIO_PROCESS, os.PRIO_PGRP)}
            found |= {attempt(os.sched_setaffinity, pid, [0]), raw("sched_setscheduler", pid, 5, parameter)}
            found |= {raw("ioprio_set", kind, pid, 3 << 13) for kind in (1, 2)}
            found |= {raw("sched_setparam", pid, parameter)}
        found |= {attempt(os.setpriority, os.PRIO_USER, 0, 19), raw("ioprio_set", 3, os.getuid(), 3 << 13)}
        answer([sorted(found), before == state()])
    """
    assert answer_of(boxes, source) == [["EPERM"], True]


def test_the_programs_own_group_has_none_of_ours_in_it(boxes: Sandboxes):
    source = """
        before = os.getpriority(os.PRIO_PROCESS, ZYGOTE)
        os.setpriority(os.PRIO_PGRP, 0, 19)
        found = {attempt(os.setpgid, 0, pid) for pid in (ZYGOTE, SUPERVISOR)}
        is_unchanged = os.getpriority(os.PRIO_PROCESS, ZYGOTE) == before
        answer([os.getpgrp() == os.getpid() == os.getsid(0), sorted(found), is_unchanged])
    """
    assert answer_of(boxes, source) == [True, ["EPERM"], True]


def test_a_forged_frame_on_stdout_is_plain_text(boxes: Sandboxes):
    frame = wire.Writer().line(outcome(exit_code=0)).decode()
    result = run(boxes, f"sys.stdout.write({frame!r}); sys.stderr.write({frame!r}); sys.exit(7)")
    assert (result.stdout, result.stderr, result.exit_code) == (frame, frame, 7)


def test_bytes_to_every_other_descriptor_reach_nothing(boxes: Sandboxes):
    frame = wire.Writer().line(outcome(exit_code=0)).decode()
    source = f"""
        for descriptor in range(3, CONTROL + 1):
            attempt(os.write, descriptor, {frame!r}.encode())
            attempt(os.write, descriptor, b"\\0" * 1000)
        print("said")
        sys.exit(7)
    """
    result = run(boxes, source)
    assert (result.stdout, result.stderr, result.exit_code) == ("said\n", "", 7)


def test_a_program_has_no_descriptors_but_its_own(boxes: Sandboxes):
    source = """
        numbers = os.listdir("/proc/self/fd")
        open_ones = [number for number in numbers if attempt(os.fstat, int(number)) == "done"]
        answer([{number: stat.S_IFMT(os.fstat(int(number)).st_mode) for number in open_ones}, CONTROL])
    """
    kinds, control = answer_of(boxes, source)
    assert kinds == dict.fromkeys(["0", "1", "2", str(control)], stat.S_IFIFO)


def test_all_descriptors_closed_is_a_normal_end(boxes: Sandboxes):
    result = run(boxes, "print('before', flush=True)\nos.closerange(0, 65536)")
    assert (result.stdout, result.exit_code, result.outcome.reason) == ("before\n", 0, "exited")


def test_nothing_listens_in_the_sandbox(boxes: Sandboxes):
    # On one machine the zygote's socket to the supervisor was made outside, as a pair: it has no name to connect to.
    # In a pod both have names, so that one can find the other. They are taken, and listened on by nobody now.
    source = """
        lines = [line.split() for line in open("/proc/net/unix").read().splitlines()[1:]]
        names = {words[7].lstrip("@") for words in lines if len(words) > 7}
        def connect(name, kind):
            with socket.socket(socket.AF_UNIX, kind) as peer:
                peer.connect(name)
        def take(name, kind):
            with socket.socket(socket.AF_UNIX, kind) as own:
                own.bind(name)
        kinds = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
        guesses = ["\\0zygote", "\\0supervisor", "\\0sandbox", "/run/zygote", "/tmp/zygote", "/dev/log"]
        guesses += ["\\0" + name for name in names]
        answer([sorted(names), sorted({attempt(connect, guess, kind) for guess in guesses for kind in kinds}),
                sorted({attempt(take, "\\0" + name, kind) for name in names for kind in kinds[:2]})])
    """
    names, found, taken = answer_of(boxes, source)
    assert names == (["code-interpreter/supervisor", "code-interpreter/zygote"] if boxes.are_pods else [])
    assert set(found) <= {"ECONNREFUSED", "ENOENT", "EACCES", "EPERM"}
    assert "EADDRINUSE" in taken or not names


def test_signals_to_its_own_processes_work(boxes: Sandboxes):
    source = """
        pids = children(3, signal.pause)
        os.kill(pids[0], signal.SIGTERM)
        os.kill(pids[1], signal.SIGSTOP)
        stopped = os.waitpid(pids[1], os.WUNTRACED)[1]
        os.setpgid(pids[2], pids[2])
        os.killpg(pids[2], signal.SIGKILL)
        answer([os.waitpid(pids[0], 0)[1], os.WIFSTOPPED(stopped), os.waitpid(pids[2], 0)[1]])
    """
    assert answer_of(boxes, source) == [15, True, 9]
