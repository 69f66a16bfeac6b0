"""Programs that leave whatever they can, and look for what another has left.

`CODE_INTERPRETER_RESIDUE_RUNS` says how many, on each backend. A residue is what a program
finds and the first program of its sandbox did not. By design, and not looked at: the hash seed and the layout of memory
are those of the zygote; the next pid and inode numbers, and the zygote's CPU time, only ever grow; ctime tells of the
cleaning, and so does mtime where a place is not the program's own (in pods).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

COUNTS = pytest.StashKey[list[str]]()
"""For the end of the report (`tests/conftest.py`)."""

RUNS = int(os.environ.get("CODE_INTERPRETER_RESIDUE_RUNS", "1000"))
EACH_MEMORY = 5
"""In every so many runs all memory is searched, which takes 0.1 s."""


class Seen:
    """What the runs have found, by the sandbox they were in: one is known by its mounts."""

    def __init__(self) -> None:
        self.residues: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.random: list[list[object]] = []
        self.examples: dict[str, tuple[object, object]] = {}
        self._first: dict[str, dict[str, Any]] = {}

    def take(self, found: dict[str, Any]) -> None:
        seen = found["seen"]
        box = seen["mounts"]
        self.runs[box] += 1
        self.left.update(found["left"])
        self.random.append(found["random"])
        self._compare("", seen, self._first.setdefault(box, seen))
        self._compare("names of sockets", any(found["names"]), False)
        self._compare("memory", found["memory"], 0)

    def _compare(self, name: str, value: object, expected: object) -> None:
        if isinstance(value, dict) and isinstance(expected, dict) and value.keys() == expected.keys():
            for part, each in value.items():
                self._compare(f"{name} {part}".strip(), each, expected[part])
        elif value != expected:
            self.residues[name] += 1
            self.examples.setdefault(name, (value, expected))


def searched(found: Callable[..., Any], config: pytest.Config) -> Seen:
    """What so many programs have found, each of which left what it could. `found` runs one and reads its answer."""
    seen, last = Seen(), ""
    for number in range(RUNS):
        secret = os.urandom(12).hex()
        seen.take(found(PROGRAM, last if number % EACH_MEMORY == 0 else "", secret))
        last = secret
    count, kinds = seen.residues.total(), ", ".join(seen.residues)
    config.stash.setdefault(COUNTS, []).append(f"{RUNS} runs in {len(seen.runs)} sandboxes left {count} {kinds}")
    return seen


LOOK = r"""
import array, builtins, ctypes, fcntl, gc, json, mmap, os, random, resource, signal, socket, struct, sys, time
import atexit, locale, logging, threading, warnings
import numpy, pandas

def text(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("latin-1")
    except OSError as error:
        return type(error).__name__

def flags(path):
    folder, word = os.open(path, os.O_RDONLY), array.array("i", [0, 0])
    try:
        fcntl.ioctl(folder, 0x80086601, word)
    except OSError:
        return None
    finally:
        os.close(folder)
    return word[0]

def number(who):
    '''Of a process: what does not change by itself.'''
    keep = ("Umask", "TracerPid", "Uid", "Gid", "Groups", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt",
            "CapEff", "NoNewPrivs", "Seccomp", "Cpus_allowed")
    lines = (line.partition(":") for line in text(f"/proc/{who}/status").splitlines())
    return {name: value.strip() for name, _, value in lines if name in keep and (name != "ShdPnd" or who == "self")}

def tree(place):
    found = []
    for folder, folders, files in os.walk(place):
        for path in sorted(os.path.join(folder, name) for name in folders + files):
            state = os.lstat(path)
            found.append([path, state.st_mode, state.st_uid, os.listxattr(path, follow_symlinks=False)])
    return sorted(found)

def place(path):
    state, space = os.stat(path), os.statvfs(path)
    changed = state.st_mtime_ns if path != "/workspace" and state.st_uid == os.getuid() else 0
    return {"tree": tree(path), "mode": state.st_mode, "mtime": changed,
            "attributes": os.listxattr(path), "flags": flags(path), "links": state.st_nlink,
            "free": [space.f_bfree, space.f_ffree]}

def modules():
    '''What programs patch most, and a sum over all functions of some modules by where they come from.'''
    found = {name: sorted(set(dir(sys.modules[name]))) for name in ("builtins", "json", "os", "sys", "random", "numpy")}
    patched = []
    for name in ("builtins", "json", "os", "random", "time", "socket", "numpy", "pandas", "logging", "threading"):
        for key, value in vars(sys.modules[name]).items():
            if callable(value) and getattr(value, "__module__", "") == "__main__":
                patched.append(f"{name}.{key}")
    found["patched"] = patched
    found["loaded"] = sorted(name for name in sys.modules)
    found["path"] = [list(sys.path), len(sys.path_hooks), [str(each) for each in sys.meta_path]]
    return found

def settings():
    return {"recursion": sys.getrecursionlimit(), "switch": sys.getswitchinterval(),
            "gc": [gc.get_threshold(), gc.isenabled()], "filters": len(warnings.filters),
            "logging": [logging.getLogger().level, len(logging.getLogger().handlers)],
            "locale": locale.setlocale(locale.LC_ALL), "timezone": [time.tzname, time.timezone, os.environ.get("TZ")],
            "trace": [sys.gettrace() is None, sys.getprofile() is None], "digits": sys.get_int_max_str_digits(),
            "errors": numpy.geterr(), "width": pandas.get_option("display.width"), "threads": threading.active_count(),
            "excepthook": sys.excepthook is sys.__excepthook__, "atexit": atexit._ncallbacks()}

def limits():
    return {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource)
            if name.startswith("RLIMIT_") and name not in ("RLIMIT_DATA", "RLIMIT_CORE")}
    # One is on top of what is used by now, the other may not be read.

def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink("/proc/self/fd/" + name).partition("[")[0].partition(":")[0]
        except OSError:
            pass  # the one that lists them
    return sorted(found.items())

def handlers():
    return {str(number): str(signal.getsignal(number)) for number in sorted(signal.valid_signals())}

def held_by_name(name):
    '''Whether an abstract name is taken, or somebody listens there.'''
    with socket.socket(socket.AF_UNIX) as tried:
        try:
            tried.bind(chr(0) + name)
        except OSError:
            return True
    return False

def sockets():
    '''Of the network namespace: but for the numbers of those that a pod's processes bind anew for each run.'''
    rows = [line.split() for line in text("/proc/net/unix").splitlines()]
    return sorted(row[1:6] + row[7:] for row in rows)

def shared_memory():
    mapped = [line.split(None, 5) for line in open("/proc/self/maps")]
    return [words[5:] for words in mapped if words[1][1] == "w" and words[1][3] == "s"]

def in_memory(secret):
    '''How often the mark is in what we can read of our own memory. It is put together where we do not look.'''
    if not secret:
        return 0
    size, buffer, wanted = len(secret) // 2, mmap.mmap(-1, 1 << 24), mmap.mmap(-1, 4096)
    for at in range(size):
        wanted[at] = int(secret[2 * at : 2 * at + 2], 16) ^ 0x5A
    needle, room, found = memoryview(wanted)[:size], memoryview(buffer), 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for low, high in [line.split()[0].split("-") for line in maps if line.split()[1] == "rw-p"]:
            for start in range(int(low, 16), int(high, 16), len(buffer) - size):
                memory.seek(start)
                try:
                    got = memory.readinto(room[: min(len(buffer), int(high, 16) - start)])
                except OSError:
                    break
                at = buffer.find(needle, 0, got)
                while at >= 0:
                    found, at = found + 1, buffer.find(needle, at + 1, got)
    return found

def look(last):
    seen = {
        "environment": dict(os.environ),
        "working folder": os.getcwd(),
        "umask": number("self")["Umask"],
        "niceness": [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0)),
                     text("/proc/self/autogroup").partition("nice")[2]],
        "out-of-memory score": [text(f"/proc/{who}/oom_score_adj") for who in ("self", 1, 2)],
        "dump filter": [text(f"/proc/{who}/coredump_filter") for who in ("self", 1, 2)],
        "timer slack": text("/proc/self/timerslack_ns"),
        "limits": limits(),
        "limits of ours": [text(f"/proc/{who}/limits") for who in (1, 2)],
        "what we are": number("self"),
        "what ours are": [number(1), number(2)],
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()),
        "session": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid(), os.getppid()],
        "descriptors": descriptors(),
        "signals": handlers(),
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timers": [signal.getitimer(each) for each in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)],
        "mounts": text("/proc/self/mountinfo"),
        "groups": text("/proc/self/cgroup"),
        "sockets": sockets(),
        "System V": [text("/proc/sysvipc/" + kind) for kind in ("shm", "sem", "msg")],
        "name": [os.uname()[1], text("/proc/sys/kernel/domainname")],
        "modules": modules(),
        "settings": settings(),
        "shared memory": shared_memory(),
        "last words": [text("/dev/termination-log"), text("/etc/hosts")],
    }
    seen.update({"place " + path: place(path) for path in ("/workspace", "/tmp", "/dev/shm")})
    return {"seen": seen, "names": [held_by_name(name) for name in ("mark", "note")], "memory": in_memory(last),
            "random": [random.getrandbits(64), int(numpy.random.randint(1 << 62)), os.urandom(8).hex()]}
"""

# Each step by itself, for many are refused. Those that were not are returned.
LEAVE = r"""
def leave(secret):
    marker = bytes(each ^ 0x5A for each in bytes.fromhex(secret))
    builtins.kept = [bytearray(marker) for _ in range(1000)]
    libc = ctypes.CDLL(None, use_errno=True)
    def must(result):
        if result < 0:
            raise OSError(ctypes.get_errno(), "refused")
    def files():
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            os.makedirs(folder + "/a/.b/c")
            for name in ("note", ".hidden", "a/.b/c/deep", "a/" + "n" * 255, ".wiped-1", "sem.mark"):
                open(f"{folder}/{name}", "wb").write(marker)
            os.symlink("/proc/self", folder + "/link")
            os.link(folder + "/note", folder + "/second")
            os.chmod(folder + "/a/.b", 0)
    def odd_names():
        os.mkdir(b"/tmp/\xff\xfe")
        open(b"/tmp/\xff\xfe/\x80\n", "w").close()
    def fonts():
        os.rename("/tmp/.matplotlib", "/tmp/.was-matplotlib")
        os.mkdir("/tmp/.matplotlib")
        open("/tmp/.matplotlib/fontlist.json", "wb").write(marker)
    def attributes():
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            os.setxattr(folder, "user.mark", marker)
    def access_lists():
        words = struct.pack("<I", 2)
        for entry in ((1, 7, -1), (2, 7, os.getuid()), (4, 7, -1), (16, 7, -1), (32, 7, -1)):
            words += struct.pack("<HHi", *entry)
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            os.setxattr(folder, "system.posix_acl_default", words)
    def inode_flags():
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            fcntl.ioctl(os.open(folder, os.O_RDONLY), 0x40086602, array.array("i", [0xC0, 0]))
    def times_and_modes():
        for folder, mode in (("/tmp", 0o700), ("/dev/shm", 0), ("/workspace", 0o777)):
            os.utime(folder, (5, 6))
            os.chmod(folder, mode)
    def held_files():
        builtins.held = open("/dev/shm/unlinked", "wb", 0)
        builtins.held.write(marker * 1000)
        os.unlink("/dev/shm/unlinked")
    def daemon():
        ready, tell = os.pipe()
        if os.fork() == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    live_on(tell)
            finally:
                os._exit(0)
        os.read(ready, 1)
        os.wait()
        os.close(ready)
        os.close(tell)
    def live_on(tell):
        for each in range(1, 32):
            if each not in (9, 19):
                signal.signal(each, signal.SIG_IGN)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(chr(0) + "mark")
        listener.listen()
        os.write(tell, b"x")
        while True:
            time.sleep(0.001)
            open("/dev/shm/again", "wb").write(marker)
    def in_flight():
        one, two = socket.socketpair()
        carried = os.memfd_create("mark")
        os.write(carried, marker)
        socket.send_fds(one, [marker], [one.fileno(), two.fileno(), carried])
        socket.send_fds(two, [marker], [one.fileno(), two.fileno()])
        for each in (one.detach(), two.detach(), carried):
            os.close(each)
    def shared_memory():
        must(libc.shmget(7, 4096, 0o1666))
    def semaphores():
        must(libc.semget(7, 1, 0o1666))
    def messages():
        must(libc.msgget(7, 0o1666))
    def queues():
        must(libc.mq_open(b"/mark", os.O_CREAT | os.O_RDWR, 0o666, None))
    def keys():
        must(libc.syscall(248 if os.uname().machine == "x86_64" else 217, b"user", b"mark", b"x", 1, -4))
    def mounts():
        must(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
    def name():
        must(libc.sethostname(b"mark", 4))
    def of_ours():
        for who in (1, 2, 0):
            for do in (lambda: os.setpriority(os.PRIO_PROCESS, who, 19), lambda: os.setpriority(os.PRIO_USER, 0, 19),
                       lambda: resource.prlimit(who, resource.RLIMIT_NOFILE, (64, 64)),
                       lambda: resource.prlimit(who, resource.RLIMIT_CPU, (64, 64)),
                       lambda: os.sched_setaffinity(who, {max(os.sched_getaffinity(0))}),
                       lambda: os.sched_setscheduler(who, os.SCHED_IDLE, os.sched_param(0)),
                       lambda: libc.syscall(251, 1, who, 3 << 13), lambda: os.kill(who or 1, signal.SIGTERM),
                       lambda: open(f"/proc/{who or 'self'}/oom_score_adj", "w").write("777"),
                       lambda: open(f"/proc/{who or 'self'}/coredump_filter", "w").write("1"),
                       lambda: open(f"/proc/{who or 'self'}/autogroup", "w").write("9")):
                attempt(do)
    def limits_of_mine():
        for name in dir(resource):
            if name.startswith("RLIMIT_") and name[7:] not in ("DATA", "AS", "FSIZE", "STACK", "CORE"):
                number = getattr(resource, name)
                soft, hard = resource.getrlimit(number)
                attempt(lambda: resource.setrlimit(number, (min(soft, 50) if soft >= 0 else 50, hard)))
    def words_of_the_container():
        open("/dev/termination-log", "wb").write(marker)
    def mine():
        os.environ.update(MARK="1", TZ="Asia/Tokyo", LD_PRELOAD="/tmp/mark.so", PYTHONPATH="/tmp")
        time.tzset(); os.umask(0); os.chdir("/"); os.nice(0)
        locale.setlocale(locale.LC_ALL, "C")
        for each in range(1, 32):
            if each not in (9, 19):
                signal.signal(each, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
        signal.setitimer(signal.ITIMER_REAL, 1000)
        signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
        os.dup2(0, 33); os.set_inheritable(33, True)
    def modules_and_state():
        json.loads = lambda *_: "patched"
        builtins.mark = marker; builtins.print = lambda *_: None
        numpy.sum = lambda *_: 7
        random.seed(1); numpy.random.seed(1)
        sys.path.insert(0, "/tmp"); sys.meta_path.append(type("Mark", (), {"find_spec": lambda *_: None})())
        sys.modules["mark"] = sys; sys.setrecursionlimit(500); sys.setswitchinterval(0.5); gc.set_threshold(7)
        warnings.simplefilter("error"); logging.basicConfig(level=1); numpy.seterr(all="ignore")
        pandas.set_option("display.width", 33); sys.setprofile(None); sys.excepthook = print
        atexit.register(int)
    def attempt(do):
        try:
            do()
            return True
        except BaseException:
            return False
    steps = [fonts, files, odd_names, attributes, access_lists, inode_flags, held_files, in_flight, shared_memory,
             semaphores, messages, queues, keys, mounts, name, of_ours, words_of_the_container, mine, modules_and_state,
             times_and_modes, limits_of_mine]
    return [step.__name__ for step in [daemon, *steps] if attempt(step)]
"""

PROGRAM = (
    LOOK
    + LEAVE
    + r"""
last, secret = sys.argv[1:3]
found = look(last)
write, encode, end = os.write, json.JSONEncoder().encode, os._exit
found["left"] = leave(secret) if secret else []
write(1, encode(found).encode())
end(0)
"""
)
"""Looks, for the mark `last` too, then leaves `secret`; says what it found."""

ITSELF = (
    LOOK
    + LEAVE
    + r"""
os.mkdir("/dev/shm/first")  # so that the place's time is the program's own to change
before = look("")
write, encode, end = os.write, json.JSONEncoder().encode, os._exit
leave(sys.argv[1])
if os.stat("/dev/shm").st_uid == os.getuid():
    os.chmod("/dev/shm", 0o700)
after = look(sys.argv[1])
found = [name for name in before["seen"] if before["seen"][name] != after["seen"][name]]
found += ["memory"] * (after["memory"] > 0) + ["names of sockets"] * any(after["names"])
write(1, encode(found).encode())
end(0)
"""
)
"""Looks before and after it has left what it can; says where it saw a difference."""
