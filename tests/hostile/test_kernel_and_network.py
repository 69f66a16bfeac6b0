"""The kernel's rarer doors, and every way out of the machine."""

from __future__ import annotations

import errno
import platform
import socket
import threading

import pytest

from tests.hostile.attack import answer_of, run
from tests.sandboxes import Sandboxes

only_on_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="aarch64 at run time: int 0x80 and x32 are x86's"
)


def test_sockets_of_every_family_but_unix_are_denied(boxes: Sandboxes):
    source = """
        def make(family, kind):
            socket.socket(family, kind).close()
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
        others = [family for family in range(64) if family != socket.AF_UNIX]
        found = {attempt(make, family, kind) for family in others for kind in kinds}
        pair = raw("socketpair", socket.AF_INET, socket.SOCK_STREAM, 0, (ctypes.c_int * 2)())
        high = raw("socket", socket.AF_INET | 1 << 32, socket.SOCK_STREAM, 0)
        answer([sorted(found | {pair, high}), attempt(make, socket.AF_UNIX, socket.SOCK_STREAM)])
    """
    assert answer_of(boxes, source) == [["EACCES"], "done"]


def test_a_listener_on_this_machine_is_out_of_reach(boxes: Sandboxes):
    source = """
        def connect(address, family):
            with socket.socket(family) as peer:
                peer.connect(address)
        abstract, port = sys.argv[1], int(sys.argv[2])
        over_network = attempt(connect, ("127.0.0.1", port), socket.AF_INET)
        answer([over_network, attempt(connect, "\\0" + abstract, socket.AF_UNIX)])
    """
    name = f"hostile-{threading.get_native_id()}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        answer = answer_of(boxes, source, name, str(listener.getsockname()[1]))
    assert answer == ["EACCES", "ECONNREFUSED"]


def test_no_name_is_resolved(boxes: Sandboxes):
    source = """
        def resolve(name):
            try:
                return len(socket.getaddrinfo(name, 80)) > 0
            except socket.gaierror:
                return "unknown"
        answer([resolve("service.invalid"), resolve("kubernetes.default.svc.invalid"), open("/etc/resolv.conf").read()])
    """
    *found, name_servers = answer_of(boxes, source)
    assert found == ["unknown", "unknown"]
    assert name_servers in ("", "nameserver 127.0.0.1\n")  # a pod has to have one


def test_the_sandbox_has_no_interface_that_leads_anywhere(boxes: Sandboxes):
    source = """
        devices = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
        tables = [path for path in ("/proc/net/route", "/proc/net/arp") if os.path.exists(path)]
        routes = [open(path).read().splitlines()[1:] for path in tables]
        answer([devices, routes])
    """
    devices, routes = answer_of(boxes, source)
    # The kernel's own tunnels, where their modules are loaded, come with every network namespace, and are down.
    assert (
        {"lo"}
        <= set(devices)
        <= {"lo", "sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip6tnl0", "ip_vti0", "ip6_vti0", "ip6gre0"}
    )
    assert all(route == [] for route in routes)


def test_namespaces_and_mounts_are_denied(boxes: Sandboxes):
    source = """
        flags = {"NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000,
                 "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000, "NEWTIME": 0x80}
        found = {raw("unshare", flag) for flag in flags.values()}
        found |= {raw("clone", flag | 17, 0, 0, 0, 0) for name, flag in flags.items() if name != "NEWTIME"}
        found |= {raw("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0)}
        calls = ("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsmount")
        found |= {raw(name, b"/tmp", b"/tmp", b"tmpfs", 0, 0) for name in calls if name in NUMBERS}
        answer([sorted(found), raw("clone3", bytes(88), 88)])
    """
    assert answer_of(boxes, source) == [["EPERM"], "ENOSYS"]


@pytest.mark.parametrize(
    "name",
    [
        *("io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "bpf", "perf_event_open", "userfaultfd"),
        *("keyctl", "add_key", "request_key", "splice", "vmsplice", "tee", "ptrace", "process_vm_readv", "kcmp"),
        *("open_by_handle_at", "name_to_handle_at", "fanotify_init", "memfd_secret", "init_module", "finit_module"),
        *(
            "kexec_load",
            "reboot",
            "swapon",
            "acct",
            "syslog",
            "sethostname",
            "settimeofday",
            "clock_settime",
            "adjtimex",
        ),
        *("quotactl", "vhangup", "setdomainname", "delete_module", "pidfd_getfd", "process_madvise", "inotify_init1"),
    ],
)
def test_a_call_that_serves_only_attacks_is_denied(boxes: Sandboxes, name: str):
    assert answer_of(boxes, "answer(raw(sys.argv[1], 0, 0, 0, 0, 0, 0))", name) == "EPERM"


def test_a_file_that_grows_can_be_followed_without_being_told(boxes: Sandboxes):
    source = """
        with open("log", "w") as log:
            follower = subprocess.Popen(["tail", "-n", "+1", "-s", "0.01", "-f", "log"], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
            log.write("one\\n"); log.flush()
            heard = [follower.stdout.readline().decode()]
            log.write("two\\n"); log.flush()
            heard.append(follower.stdout.readline().decode())
        follower.kill()
        answer(heard)
    """
    assert answer_of(boxes, source) == ["one\n", "two\n"]


def test_calls_that_the_filter_does_not_know_are_not_there(boxes: Sandboxes):
    assert answer_of(boxes, "answer([raw(number, 0, 0, 0) for number in (600, 1000, 1 << 20)])") == ["ENOSYS"] * 3


X32 = 0x40000000


@only_on_x86
def test_x32_calls_are_refused(boxes: Sandboxes):
    source = f"answer([raw({X32} | NUMBERS[name], 1, 9) for name in ('kill', 'ptrace', 'socket', 'mount')])"
    assert answer_of(boxes, source) == ["ENOSYS"] * 4


INT_0X80 = """
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (getpid in 32 bits); int 0x80; ret
print(-ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())
"""


@only_on_x86
def test_32_bit_calls_are_refused(boxes: Sandboxes):
    result = run(boxes, INT_0X80)
    # SIGSEGV where the kernel serves no 32-bit programs: it is refused there before the filter is asked.
    assert result.outcome.signal == "SIGSEGV" or result.stdout == f"{errno.ENOSYS}\n"


def test_a_guest_cannot_install_a_filter_of_its_own(boxes: Sandboxes):
    """One that logs each call would fill the node's audit log."""
    source = "answer([raw('seccomp', 1, 0, 0), raw('prctl', 22, 2, 0, 0)])"
    assert answer_of(boxes, source) == ["EPERM", "EPERM"]


def test_what_a_program_is_run_from_cannot_be_changed_by_its_back_door(boxes: Sandboxes):
    """As an ordinary user a guest owns what the service's user owns, the interpreter too where it is that user's."""
    source = """
        answer([attempt(os.chmod, "/proc/self/exe", 0o755), attempt(os.utime, "/proc/self/exe", (1, 1)),
                attempt(os.setxattr, "/proc/self/exe", "user.x", b"1")])
    """
    assert answer_of(boxes, source) == ["EROFS"] * 3


def test_devices_take_and_give_and_keep_no_time(boxes: Sandboxes):
    """SECURITY: on one machine they are the host's own, and a time would be a message to all sandboxes."""
    source = """
        written = [attempt(open("/dev/" + name, "wb", 0).write, b"x") for name in ("null", "zero", "full")]
        read = [len(open("/dev/" + name, "rb", 0).read(3)) for name in ("zero", "full", "random", "urandom")]
        shell = subprocess.run("echo lost > /dev/null && head -c 3 /dev/zero", shell=True, capture_output=True)
        times = {attempt(os.utime, "/dev/" + name) for name in ("null", "zero", "full", "random", "urandom")}
        answer([written, read, len(shell.stdout), sorted(times)])
    """
    *honest, times = answer_of(boxes, source)
    assert honest == [["done", "done", "ENOSPC"], [3, 3, 3, 3], 3]
    assert times == ["EROFS"] or boxes.are_pods


def test_no_program_gives_rights(boxes: Sandboxes):
    source = """
        def status(*words):
            return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode
        def become_root(setter, *ids):
            setter(*ids)
        found = {attempt(become_root, os.setuid, 0), attempt(become_root, os.setgid, 0), attempt(os.setgroups, [0])}
        found |= {attempt(become_root, os.setresuid, 0, 0, 0), attempt(become_root, os.setuid, 65533)}
        programs = [path for path in ("/bin/su", "/usr/bin/sudo", "/usr/bin/newgrp") if os.path.exists(path)]
        mounts = [line.split()[4:6] for line in open("/proc/self/mountinfo")]
        answer({
            "errors": sorted(found),
            "became root": [path for path in programs if status(path, "-c", "id") == 0],
            "mounts that would allow it": [point for point, options in mounts if "nosuid" not in options],
        })
    """
    answer = answer_of(boxes, source)
    assert set(answer.pop("errors")) <= {"EPERM", "EINVAL"}
    # In a pod the kubelet says how things are mounted; no_new_privs is what holds there.
    assert answer.pop("mounts that would allow it") == [] or boxes.are_pods
    assert answer == {"became root": []}


def test_a_setuid_bit_of_its_own_gives_nothing(boxes: Sandboxes):
    source = """
        shutil.copy("/usr/bin/id", "id")
        os.chmod("id", 0o6755)
        answer(subprocess.run(["./id", "-u"], capture_output=True, text=True).stdout)
    """
    assert answer_of(boxes, source) == "65532\n"


def test_a_program_without_a_file_is_as_confined_as_any(boxes: Sandboxes):
    source = """
        memory = os.memfd_create("program")
        os.write(memory, open(os.path.realpath(sys.executable), "rb").read())
        code = "import os, socket\\ntry: socket.socket(socket.AF_INET)\\nexcept OSError as error: print(error.errno)\\n"
        code += f"try: os.kill({SUPERVISOR}, 9)\\nexcept OSError as error: print(error.errno)\\n"
        code += "try: open('/etc/planted', 'w')\\nexcept OSError as error: print(error.errno in (13, 30))"
        command, home = [f"/proc/self/fd/{memory}", "-S", "-c", code], {"PYTHONHOME": sys.base_prefix}
        ran = subprocess.run(command, pass_fds=[memory], capture_output=True, text=True, env=home)
        answer(ran.stdout.split())
    """
    assert answer_of(boxes, source) == ["13", "1", "True"]


def test_the_clock_and_the_scheduler_are_not_its_to_set(boxes: Sandboxes):
    source = """
        SCHED_FIFO, SCHED_RR, SCHED_DEADLINE = 1, 2, 6
        def schedule(policy):
            os.sched_setscheduler(0, policy, os.sched_param(1))
        answer({
            "clock": attempt(time.clock_settime, time.CLOCK_REALTIME, time.time()),
            "fifo": attempt(schedule, SCHED_FIFO),
            "round robin": attempt(schedule, SCHED_RR),
            "nicer": attempt(os.setpriority, os.PRIO_PROCESS, 0, 0),
        })
    """
    answer = answer_of(boxes, source)
    assert answer.pop("nicer") in ("EACCES", "EPERM")
    assert answer == dict.fromkeys(answer, "EPERM")


def test_no_terminal_can_be_typed_into(boxes: Sandboxes):
    source = """
        import termios
        TIOCLINUX, TIOCSETD = 0x541C, 0x5423
        found = {attempt(fcntl.ioctl, 0, request, b"x" * 8) for request in (termios.TIOCSTI, TIOCLINUX, TIOCSETD)}
        high = {raw("ioctl", 0, termios.TIOCSTI | 1 << 32, b"x")}
        answer([sorted(found | high), attempt(open, "/dev/tty"), attempt(os.openpty)])
    """
    denied, tty, pty = answer_of(boxes, source)
    assert denied == ["EPERM"]
    assert tty in ("ENOENT", "ENXIO", "EACCES")
    assert pty != "done"


def test_pages_cannot_be_made_immortal(boxes: Sandboxes):
    source = """
        MCL_CURRENT, MAP_LOCKED, ADDR_NO_RANDOMIZE = 1, 0x2000, 0x0040000
        hint = libc.mlockall(MCL_CURRENT)
        answer([hint, errno.errorcode[ctypes.get_errno()], raw("personality", ADDR_NO_RANDOMIZE)])
    """
    failed, error, personality = answer_of(boxes, source)
    assert (failed, personality) == (-1, "EPERM")
    assert error in ("EPERM", "ENOMEM")


def test_what_proc_shows_is_the_sandbox_alone(boxes: Sandboxes):
    source = """
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        ours = [ZYGOTE, SUPERVISOR, os.getpid()]
        answer([pids, ours, attempt(open, "/proc/kcore", "rb"), attempt(open, "/proc/kmsg", "rb")])
    """
    pids, expected, kcore, kmsg = answer_of(boxes, source)
    assert pids == sorted(expected)
    assert {kcore, kmsg} <= {"EACCES", "EPERM", "ENOENT"}
