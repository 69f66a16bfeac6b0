"""What a program must not find: the service's secrets, the host's files, and anything of another run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool import RunLimits
from tests.hostile.attack import answer_of, run
from tests.hostile.estates import AnyEstate, estate_of
from tests.places import Place
from tests.sandboxes import CHECKOUT, Sandboxes

SECRET = secrets.token_hex(16)

SCAN = """
def is_in(data, head, tail):
    at = data.find(head)
    while at >= 0:
        if data[at + len(head) : at + len(head) + len(tail)] == tail:
            return True
        at = data.find(head, at + 1)
    return False

def found_in_memory(head, tail, piece_bytes=16 << 20):
    '''The regions of this process's memory that hold a marker. It is never put together here, or it would be found.'''
    places = []
    maps, memory = open("/proc/self/maps").read(), open("/proc/self/mem", "rb", 0)
    for line in maps.splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        for offset in range(start, end, piece_bytes) if "r" in line.split()[1] and "[v" not in line else ():
            memory.seek(offset)
            if is_in(memory.read(min(piece_bytes, end - offset)), head, tail):
                places.append(line)
    return places
"""


def halves(text: str) -> str:
    """As Python source: two pieces of bytes, so that the text is not there for being asked for."""
    return f"{text[:9].encode()!r}, {text[9:].encode()!r}"


@pytest.fixture(scope="module")
def estate(place: Place, limits: RunLimits) -> Iterator[AnyEstate]:
    """A service that has a secret in its environment, and in its memory."""
    os.environ["DATABASE_URL"] = f"postgres://service:{SECRET}@database/"
    os.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    try:
        with estate_of(place, limits=limits) as estate:
            yield estate
    finally:
        del os.environ["DATABASE_URL"], os.environ["KUBERNETES_SERVICE_HOST"]


def test_only_the_documented_variables_are_there(boxes: Sandboxes):
    names = {"PATH", "HOME", "LANG", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING"}
    names |= {"MPLBACKEND", "MPLCONFIGDIR", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    source = """
        pairs = open("/proc/self/environ", "rb").read().split(b"\\0")
        raw_names = [pair.split(b"=")[0].decode() for pair in pairs if pair]
        shell_names = subprocess.run(["/usr/bin/env"], capture_output=True, text=True).stdout.splitlines()
        answer([sorted(os.environ), sorted(raw_names), sorted(line.split("=")[0] for line in shell_names)])
    """
    own, raw, inherited = answer_of(boxes, source)
    assert set(own) == set(inherited) == names
    assert set(raw) <= names


def test_the_secret_of_the_service_is_nowhere(boxes: Sandboxes):
    ask = f"""
texts = [open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline") + ["/proc/self/environ"]]
answer([found_in_memory({halves(SECRET)}), len([text for text in texts if is_in(text, {halves(SECRET)})])])
"""
    assert answer_of(boxes, SCAN + ask) == [[], 0]


def test_command_lines_name_no_folder_of_ours(boxes: Sandboxes):
    source = """
        lines = [open(path, "rb").read().rstrip(b"\\0") for path in glob.glob("/proc/[0-9]*/cmdline")]
        answer([[line.replace(b"\\0", b" ").decode() for line in lines], sys.executable, sys.orig_argv])
    """
    lines, python, own = answer_of(boxes, source, "an argument")
    assert set(lines) <= {
        "code-interpreter science",
        "code-interpreter nursery",
        "code-interpreter zygote",
        "code-interpreter supervisor",
        f"{python} /workspace/__main__.py an argument",
    }
    assert " ".join(own) in lines


def test_no_module_is_one_of_ours(boxes: Sandboxes):
    source = """
        files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
        answer([file for file in files if file.endswith("start.py") or "/sandbox_runtime/" in file])
    """
    assert answer_of(boxes, source) == []


def test_a_secret_of_one_run_is_not_in_the_memory_of_the_next(boxes: Sandboxes):
    plant = f"kept = {SECRET!r}; import sys; sys.stdin.read(); open('{SECRET}', 'w').write(kept * 1000)"
    files, variables = {"in": SECRET.encode()}, {"PLANTED": SECRET}
    assert boxes.run(plant, stdin=SECRET * 1000, args=[SECRET], env=variables, files=files).exit_code == 0
    for _ in range(3):
        assert answer_of(boxes, SCAN + f"answer(found_in_memory({halves(SECRET)}))") == []


def test_the_scan_finds_what_is_there(boxes: Sandboxes):
    ask = f"kept = sys.stdin.read().encode()\nanswer(len(found_in_memory({halves(SECRET)})) > 0)"
    assert answer_of(boxes, SCAN + ask, stdin=SECRET) is True


OF_EVERY_CONTAINER = {
    *("/etc/shadow", "/etc/hostname", "/etc/machine-id", "/boot", "/srv", "/sys"),
    *("/dev/termination-log", "/dev/tty", "/dev/console", "/dev/ptmx"),
}
"""In a pod these are the image's, or made for the container; none can be written to (see below)."""


def test_nothing_of_the_host_is_there(boxes: Sandboxes, tmp_path: Path):
    (tmp_path / "secret").write_text(SECRET)
    paths = [
        *("/etc/shadow", "/etc/hostname", "/etc/ssh", "/root/.ssh", "/etc/machine-id", "/etc/kubernetes"),
        *("/var/run/secrets/kubernetes.io/serviceaccount/token", "/run/secrets", "/var/run/docker.sock"),
        *(
            "/dev/termination-log",
            "/dev/mem",
            "/dev/kmsg",
            "/dev/tty",
            "/dev/console",
            "/dev/ptmx",
            "/dev/fuse",
            "/sys",
        ),
        *(
            str(tmp_path / "secret"),
            f"{CHECKOUT}/.venv",
            f"{CHECKOUT}/pool",
            f"{CHECKOUT}/pyproject.toml",
            "/boot",
            "/srv",
        ),
    ]
    look = "answer([path for path in json.loads(sys.argv[1]) if os.path.lexists(path)])"
    assert set(answer_of(boxes, look, _json(paths))) <= (OF_EVERY_CONTAINER if boxes.are_pods else set())


def _json(paths: list[str]) -> str:
    return "[" + ",".join(f'"{path}"' for path in paths) + "]"


def test_the_host_is_not_named(boxes: Sandboxes):
    source = "answer([socket.gethostname(), os.uname().nodename, [line.split(':')[0] for line in open('/etc/passwd')]])"
    assert answer_of(boxes, source) == ["sandbox", "sandbox", ["root", "sandbox"]]


def test_a_program_has_no_rights_at_all(boxes: Sandboxes):
    source = """
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
        names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")
        answer({name: status[name].split() for name in names})
    """
    nothing = {name: ["0000000000000000"] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    answer = answer_of(boxes, source)
    groups = answer.pop("Groups")
    assert answer == nothing | {"NoNewPrivs": ["1"], "Seccomp": ["2"], "Uid": ["65532"] * 4, "Gid": ["65532"] * 4}
    # An ordinary user cannot drop the groups that it was given: they count as nobody's inside. Nor can a pod.
    assert groups == [] or ((boxes.are_pods or os.geteuid() != 0) and set(groups) <= {"65532", "65534"})


def test_nothing_is_left_for_the_next_run(boxes: Sandboxes):
    plant = """
        import builtins, numbers, string
        builtins.print = None; os.getpid = None; string.digits = "planted"; sys.modules["planted"] = sys
        sys.path.append("/tmp"); os.environ["PLANTED"] = "x"; os.umask(0); os.nice(0)
        for place in ("/workspace", "/tmp", "/dev/shm"):
            open(f"{place}/planted", "w").write("x")
            for name in ("json", "random", "sitecustomize", "usercustomize", "numbers"):
                open(f"{place}/{name}.py", "w").write("planted = True")
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        children(1, signal.pause)
        socket.socket(socket.AF_UNIX).bind("\\0planted")
    """
    look = """
        import builtins, json, numbers, random, string
        places = [f"{place}/{name}" for place in ("/workspace", "/tmp", "/dev/shm") for name in os.listdir(place)]
        answer([
            string.digits, "planted" in sys.modules, "/tmp" in sys.path, "PLANTED" in os.environ, os.getpid() > 0,
            [hasattr(module, "planted") for module in (json, numbers, random)], sorted(places),
            len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            open("/proc/net/unix").read().count("planted"), len([pid for pid in os.listdir("/proc") if pid.isdigit()]),
        ])
    """
    before = answer_of(boxes, look)
    assert run(boxes, plant).exit_code == 0
    assert [answer_of(boxes, look) for _ in range(3)] == [before] * 3


def test_a_module_in_the_workspace_shadows_for_its_own_program_only(boxes: Sandboxes):
    shadow = {"colorsys.py": b"mine = True"}
    assert boxes.run("import colorsys; print(colorsys.mine)", files=shadow).stdout == "True\n"
    assert boxes.run("import colorsys; print(hasattr(colorsys, 'mine'))").stdout == "False\n"


def test_objects_that_outlive_their_maker_cannot_be_made(boxes: Sandboxes):
    source = """
        answer({
            **{name: raw(name, 1, 1, 0o1666) for name in ("shmget", "semget", "msgget")},
            "mq_open": raw("mq_open", b"planted", os.O_CREAT | os.O_RDWR, 0o666, 0),
            "add_key": raw("add_key", b"user", b"planted", b"x", 1, -4),
            "keyctl": raw("keyctl", 0, -4, 0),
        })
    """
    answer = answer_of(boxes, source)
    assert answer == dict.fromkeys(answer, "EPERM")


def test_randomness_differs_from_run_to_run(boxes: Sandboxes):
    source = """
        import uuid, secrets
        answer([random.random(), random.getstate()[1][:4], str(uuid.uuid4()), str(uuid.uuid1()), secrets.token_hex(8),
                os.path.basename(tempfile.mktemp()), random.SystemRandom().random()])
    """
    runs = [answer_of(boxes, source) for _ in range(4)]
    assert all(len({str(value) for value in values}) == len(runs) for values in zip(*runs, strict=True))


def test_nothing_but_its_own_places_can_be_written(boxes: Sandboxes):
    source = """
        import sysconfig
        folders = ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/dev", "/proc", "/run", "/var", "/var/tmp", "/root"]
        folders += [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), sys.prefix]
        files = ["/etc/passwd", "/etc/hosts", sys.executable, os.__file__, "/dev/termination-log"]
        files += ["/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward"]
        files += ["/proc/sysrq-trigger", "/proc/self/oom_score_adj", "/proc/self/uid_map", "/proc/1/oom_score_adj"]
        found = {attempt(open, os.path.join(folder, "planted"), "w") for folder in folders}
        found |= {attempt(os.mkdir, os.path.join(folder, "planted")) for folder in folders}
        found |= {attempt(open, path, "r+b") for path in files}
        found |= {attempt(os.remove, "/etc/passwd"), attempt(os.truncate, os.__file__, os.path.getsize(os.__file__))}
        found |= {attempt(os.chmod, "/usr", 0o755), attempt(os.utime, os.__file__), attempt(os.chown, "/etc", 65532, 0)}
        found |= {attempt(os.symlink, "x", "/etc/planted"), attempt(os.setxattr, os.__file__, "user.planted", b"x")}
        answer(sorted(found))
    """
    assert set(answer_of(boxes, source)) <= {"EACCES", "EROFS", "EPERM", "ENOENT"}


def test_the_interpreter_is_read_only_by_whatever_path(boxes: Sandboxes):
    # /proc/self/exe leads to the mount that the template was started from, and to no folder of the sandbox's root.
    source = """
        paths = [sys.executable, os.path.realpath(sys.executable), "/proc/self/exe"]
        mapped = {line.split()[-1] for line in open("/proc/self/maps") if line.rstrip().endswith(".so")}
        regions = glob.glob("/proc/self/map_files/*")
        found = {attempt(change, path) for path in paths for change in (
            lambda path: open(path, "r+b"), os.utime, lambda path: os.chmod(path, os.stat(path).st_mode & 0o777),
            lambda path: os.setxattr(path, "user.planted", b"x"), lambda path: os.truncate(path, os.path.getsize(path)),
        )}
        is_read_only = {bool(os.statvfs(path).f_flag & os.ST_RDONLY) for path in [*paths, *mapped]}
        answer([sorted(found), sorted(is_read_only), sorted({attempt(open, region, "r+b") for region in regions})])
    """
    found, is_read_only, regions = answer_of(boxes, source)
    assert set(found) <= {"EROFS", "EACCES", "ETXTBSY"}
    assert is_read_only == [True]
    assert set(regions) <= {"EPERM", "EACCES"}


def test_it_can_write_in_its_own_places(boxes: Sandboxes):
    source = """
        for place in ("/workspace", "/tmp", "/dev/shm", os.environ["MPLCONFIGDIR"]):
            open(f"{place}/own", "w").write("x")
        for device in ("/dev/null", "/dev/zero", "/dev/full"):
            open(device, "r+b").close()
        open("/dev/null", "w").write("x")
        answer([len(open("/dev/urandom", "rb").read(8)), len(os.getrandom(8))])
    """
    assert answer_of(boxes, source) == [8, 8]
