"""One leak of each kind, planted the way a hole would leave it: the proof fails, and by nothing but its comparison.

A program gets none of these past its lock-down, the wiping and the killing. So each is planted by hand, in namespaces
of its own, beside a `Baseline` that was taken before. PID 1 stands for the zygote, PID 2 for the supervisor.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import pytest

from sandbox_runtime import places
from tests.unit import confined

NAMESPACES = """
import array, struct
from sandbox_runtime import cleaning, facts, guests, places

def be_someone():
    uid, gid = os.getuid(), os.getgid()
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open("/proc/self/" + file, "w") as stream:
            stream.write(text)
    namespaces.unshare(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWPID
                       | namespaces.CLONE_NEWNET | namespaces.CLONE_NEWUTS)

def waited_for(pid):
    os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))

def lay_out():
    "A root with nothing in it that others on this machine could change."
    namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("tmpfs", "/mnt", "tmpfs", 0)
    own = {"proc": "proc", "workspace": "tmpfs", "tmp": "tmpfs", "dev/shm": "tmpfs", "dev/mqueue": "mqueue"}
    for name, kind in own.items():
        os.makedirs("/mnt/" + name)
        namespaces.mount(kind, "/mnt/" + name, kind, 0)
    os.makedirs("/mnt/fonts")
    for path in ("/mnt/fonts/fontlist.json", "/mnt/last-words"):
        open(path, "w").close()
    namespaces.mount("/mnt/last-words", "/mnt/last-words", None, namespaces.MS_BIND)
    namespaces.mount("none", "/mnt", None, namespaces.MS_BIND | namespaces.MS_REMOUNT | namespaces.MS_RDONLY)
    os.chroot("/mnt")
    os.chdir("/")

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def set_flags(path, flags):
    folder = os.open(path, os.O_RDONLY)
    fcntl.ioctl(folder, places.FS_IOC_SETFLAGS, array.array("i", [flags, 0]))

def set_access_list(path):
    "What is made below inherits it."
    entries = [(1, 7, -1), (2, 7, os.getuid()), (4, 7, -1), (16, 7, -1), (32, 7, -1)]
    words = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_default", words)

def daemon(act):
    "Act in a process that has left its parents, and live on."
    ready, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            act()
            os.write(tell, b"x")
            signal.pause()
        os._exit(0)
    os.read(ready, 1)
    os.wait()

def another_of(name):
    "Accepted, it has the name of the socket that listens."
    knocking = socket.socket(socket.AF_UNIX)
    knocking.connect(name)
    return knocking, listening.accept()

def in_flight():
    "Two, each in a message to the other, and what else goes with them."
    one, two = socket.socketpair()
    socket.send_fds(one, [b"for you"], [one.fileno(), two.fileno(), os.memfd_create("for you")])
    socket.send_fds(two, [b"for you"], [one.fileno(), two.fileno()])
    return one, two

def at_the_end(act):
    "Act when all has been put back, before it is compared."
    turned = places.turn_back
    def turn_back(place, before):
        turned(place, before)
        act()
    places.turn_back = turn_back

def by(name, *arguments):
    "A system call, by its name or its number."
    result = raw(name, *arguments) if isinstance(name, str) else raw("", *arguments, number=name)
    assert result == "done", (name, result)

libc = ctypes.CDLL(None, use_errno=True)
be_someone()
if (first := os.fork()) != 0:
    waited_for(first)
os.setsid()
lay_out()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
if (second := os.fork()) != 0:
    while True:
        pid, status = os.wait()
        if pid == second:
            os._exit(abs(os.waitstatus_to_exitcode(status)))
os.setsid()
places.lay_out_tmp("/fonts")
listening = socket.socket(socket.AF_UNIX)
listening.bind(b"\\0ours")
listening.listen()
forgotten = arguments[0]
places.COMPARED = tuple(name for name in places.COMPARED if name not in forgotten)
baseline = cleaning.Baseline("/fonts")
for name in forgotten:
    baseline._facts.pop(name, None)
"""

ANSWER = "\nanswer(baseline.restore())\n"

NODUMP = 64


class Leak(NamedTuple):
    lines: str
    noticed_by: tuple[str, ...]
    """The comparisons that notice it, and no other does."""


def holding(how: str) -> str:
    """Lines for a process that nobody killed, and that the list of processes does not show."""
    return f"daemon(lambda: {how})\nguests.living = lambda: []"


LEAKS: dict[str, Leak] = {
    # --- files, past the wiping
    "a hidden file": Leak(
        """
        wiped = places.wipe
        def leave_one(place, until):
            count = wiped(place, until)
            write(place + "/.hidden", "")
            return count
        places.wipe = leave_one
        """,
        ("used_files", "entries"),
    ),
    "a file in /dev/shm": Leak(
        """
        wiped = places.wipe
        places.wipe = lambda place, until: 0 if place == "/dev/shm" else wiped(place, until)
        write("/dev/shm/sem.note", "for you")
        """,
        ("used_blocks", "used_files", "entries"),
    ),
    "another file in place of a link": Leak(
        """
        laid_out = places.lay_out_tmp
        def lay_out_otherwise(lists):
            laid_out(lists)
            os.remove("/tmp/.matplotlib/fontlist.json")
            write("/tmp/.matplotlib/fontlist.json", "")
        places.lay_out_tmp = lay_out_otherwise
        """,
        ("entries",),
    ),
    "a link that leads elsewhere": Leak(
        """
        laid_out = places.lay_out_tmp
        def lay_out_otherwise(lists):
            laid_out(lists)
            os.remove("/tmp/.matplotlib/fontlist.json")
            os.symlink("/fonts/other", "/tmp/.matplotlib/fontlist.json")
        places.lay_out_tmp = lay_out_otherwise
        """,
        ("entries",),
    ),
    "an open file without a name": Leak(
        """
        held = open("/workspace/gone", "w+")
        os.remove("/workspace/gone")
        """,
        ("used_files",),
    ),
    "the pages of an open file without a name": Leak(
        """
        write("/workspace/gone", "for you")
        held = open("/workspace/gone")
        os.remove("/workspace/gone")
        """,
        ("used_blocks", "used_files"),
    ),
    # --- the places themselves, past the restoring
    "a mode": Leak("at_the_end(lambda: os.chmod('/dev/shm', 0o1711))", ("mode",)),
    "an attribute": Leak(
        "at_the_end(lambda: os.setxattr('/dev/shm', 'user.note', b'for you'))", ("attributes", "used_files")
    ),
    "an access list": Leak("at_the_end(lambda: set_access_list('/dev/shm'))", ("attributes",)),
    "a flag of an inode": Leak(f"at_the_end(lambda: set_flags('/dev/shm', {NODUMP}))", ("flags",)),
    "a time": Leak("places.turn_back = lambda *_: None; os.utime('/dev/shm', (5, 6))", ("times",)),
    # --- what lives on without a process
    "a mount": Leak("namespaces.mount('tmpfs', '/dev/mqueue', 'tmpfs', 0)", ("the mounts",)),
    "a System V segment": Leak("by('shmget', 7, 4096, 0o1600)", ("the shared memory",)),
    "a System V semaphore": Leak("by('semget', 7, 1, 0o1600)", ("the semaphores",)),
    "a System V queue": Leak("by('msgget', 7, 0o1600)", ("the messages",)),
    "a POSIX queue": Leak("by('mq_open', b'note', os.O_CREAT | os.O_RDWR, 0o600, None)", ("the message queues",)),
    "a host's name": Leak("socket.sethostname('for-you')", ("the host's name",)),
    "a domain's name": Leak(
        "assert libc.setdomainname(b'for-you', 7) == 0",
        ("the domain's name",),
    ),
    "the container's last words": Leak("write('/last-words', 'for you')", ("what else can be written to",)),
    # --- processes, past the killing
    "a daemon": Leak("daemon(lambda: None)", ("the list of processes",)),
    "a name of a socket": Leak(
        holding("globals().update(held=socket.socket(socket.AF_UNIX)) or held.bind(chr(0) + 'note')"),
        ("the sockets",),
    ),
    "a second socket of a name that was there": Leak(
        holding("globals().update(held=another_of(b'\\0ours'))"),
        ("the sockets",),
    ),
    "sockets without a name": Leak(holding("globals().update(held=socket.socketpair())"), ("the sockets",)),
    "sockets of another type": Leak(
        holding("globals().update(held=socket.socketpair(type=socket.SOCK_DGRAM))"), ("the sockets",)
    ),
    "sockets in flight": Leak(holding("globals().update(held=in_flight()[0])"), ("the sockets",)),
}


def of_process(name: str, who: str) -> dict[str, Leak]:
    """Leaks in what a process of ours is like: `who` is its number, as an expression."""
    set_scheduling = f"os.sched_setscheduler({who}, os.SCHED_BATCH, os.sched_param(0))"
    found = {
        "a limit": (f"resource.prlimit({who}, resource.RLIMIT_NOFILE, (99, 99))", "limits"),
        "niceness": (f"os.setpriority(os.PRIO_PROCESS, {who}, 5)", "niceness"),
        "an affinity": (f"os.sched_setaffinity({who}, {{0}})", "affinity"),
        "a scheduling class": (set_scheduling, "scheduling"),
        "a disk priority": (f"by('ioprio_set', 1, {who}, 3 << 13)", "disk priority"),
        "a pending signal": (f"os.kill({who}, signal.SIGUSR1)", "status"),
        "an oom score": (f"write(f'/proc/{{{who}}}/oom_score_adj', '999')", "oom score"),
        "a group's niceness": (f"write(f'/proc/{{{who}}}/autogroup', '7')", "group's niceness"),
        "a dump filter": (f"write(f'/proc/{{{who}}}/coredump_filter', '1')", "dump filter"),
    }
    return {f"{leak} of {name}": Leak(lines, (f"the {fact} of {name}",)) for leak, (lines, fact) in found.items()}


LEAKS |= of_process("the zygote", "1") | of_process("the supervisor", "os.getpid()")

# A niceness shows in how a process is scheduled too.
ALSO = {f"niceness of {name}": f"the scheduling of {name}" for name in ("the zygote", "the supervisor")}

WITHOUT_A_LEAK = {"owner": "no second id exists in a sandbox (tests/unit/test_places.py)"}


def restored(lines: str, forgotten: list[str] | None = None) -> tuple[list[str], dict[str, int]]:
    """What a restore finds after the lines, when some comparisons are left out."""
    found = confined.answer_of(textwrap.dedent(lines) + ANSWER, forgotten or [], setup=NAMESPACES)
    return found[0], found[1]


def noticed_by(name: str) -> list[str]:
    return sorted([*LEAKS[name].noticed_by, *([ALSO[name]] if name in ALSO else [])])


def comparison(finding: str) -> str:
    """Which one a finding is of."""
    words = finding.removesuffix(" is not as it was")
    return words.split(" of /")[0]


def test_where_nothing_was_left_nothing_is_found():
    findings, evidence = restored("write('/workspace/__main__.py', 'print(1)')")
    assert findings == []
    assert (evidence["wiped"], evidence["places"]) == (3, 3)  # the program, and matplotlib's folder with its link
    assert evidence["facts"] > 40


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_noticed(name: str):
    findings, _ = restored(LEAKS[name].lines)
    assert sorted(set(map(comparison, findings))) == noticed_by(name)
    assert all(finding.endswith(" is not as it was") for finding in findings)


@pytest.mark.parametrize("name", LEAKS)
def test_without_the_comparison_nobody_would_notice(name: str):
    assert restored(LEAKS[name].lines, noticed_by(name))[0] == []


def test_every_comparison_notices_a_leak():
    everything = confined.answer_of("answer(list(baseline._facts))", [], setup=NAMESPACES)
    noticing = {each for name in LEAKS for each in noticed_by(name)}
    assert noticing | set(WITHOUT_A_LEAK) == {*everything, *places.COMPARED}


# --- what a program can do to the places is undone


UNDONE: dict[str, str] = {
    "sockets in flight that nobody can reach": "for end in in_flight(): end.close()",
    "many of them": "for _ in range(100): [end.close() for end in in_flight()]",
    "closed places": "for place in places.WRITABLE: os.chmod(place, 0)",
    "times": "for place in places.WRITABLE: os.utime(place, (5, 6))",
    "attributes": "for place in places.WRITABLE: os.setxattr(place, 'user.note', b'for you')",
    "flags": f"for place in places.WRITABLE: set_flags(place, {NODUMP})",
    "an access list that all below inherit": "set_access_list('/tmp')",
    "matplotlib's folder closed": "os.chmod(places.MATPLOTLIB_FOLDER, 0)",
    "matplotlib's folder replaced": """
        os.rename(places.MATPLOTLIB_FOLDER, "/tmp/moved")
        os.symlink("/proc", places.MATPLOTLIB_FOLDER)
    """,
}


@pytest.mark.parametrize("name", UNDONE)
def test_what_a_program_can_do_to_the_places_is_undone(name: str):
    assert restored(UNDONE[name])[0] == []


def test_the_next_program_finds_no_time_that_the_last_one_set_elsewhere():
    lines = """
        os.utime("/proc/1/task", (5, 6))
        baseline.restore()
        answer(os.stat("/proc/1/task").st_mtime)
    """
    assert confined.answer_of(lines, [], setup=NAMESPACES) > 6


def test_sockets_in_flight_outlive_their_program_and_are_looked_for():
    """Else the test above could not fail. Another socket of this machine may end meanwhile, so not each time."""
    lines = """
        def left():
            for end in in_flight(): end.close()
            return len(baseline._reader.now()["the sockets"]) - len(baseline._facts["the sockets"])
        answer([left() for _ in range(20)])
    """
    assert max(confined.answer_of(lines, [], setup=NAMESPACES)) >= 2


def test_what_is_made_after_a_flag_was_undone_does_not_inherit_it():
    lines = f"set_flags('/tmp', {NODUMP})\nbaseline.restore()\nanswer(places._flags(places.MATPLOTLIB_FOLDER))\n"
    assert confined.answer_of(lines, [], setup=NAMESPACES) == 0


def test_the_next_program_finds_the_times_that_the_first_one_found():
    lines = """
        def times():
            states = [os.stat(place) for place in places.WRITABLE]
            return [(state.st_atime_ns, state.st_mtime_ns) for state in states]
        first = times()
        write("/workspace/made", "")
        os.listdir("/dev/shm")
        baseline.restore()
        answer(times() == first)
    """
    assert confined.answer_of(lines, [], setup=NAMESPACES) is True


# --- what cannot be wiped or laid out


RESISTING: dict[str, tuple[str, list[str]]] = {
    "a place that cannot be wiped": (
        """
        flags = namespaces.MS_BIND | namespaces.MS_REMOUNT | namespaces.MS_RDONLY
        write("/dev/shm/kept", "")
        namespaces.mount("none", "/dev/shm", None, flags)
        """,
        ["/dev/shm could not be wiped: Read-only file system"],
    ),
    "more than there is time for": (
        "cleaning.WIPE_SECONDS = -1.0\nwrite('/workspace/made', '')",
        [
            "/workspace could not be wiped: there was no end to it",
            "/tmp could not be wiped: there was no end to it",
        ],
    ),
    "no room for matplotlib's folder": (
        "places.wipe = lambda *_: 0",
        ["the places could not be laid out: File exists"],
    ),
}


@pytest.mark.parametrize("name", RESISTING)
def test_what_resists_is_a_finding_and_nothing_more_is_looked_at(name: str):
    lines, expected = RESISTING[name]
    looking = "\nbaseline._differences = lambda: ['looked at']"
    assert restored(textwrap.dedent(lines) + looking)[0] == expected
