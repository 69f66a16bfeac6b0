"""kernel, capabilities and namespaces: each call does what it says, and says what it tried when it cannot."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from sandbox_runtime import kernel, namespaces
from tests.unit import confined

BECOME_ROOT = """
    def become_root(flags):
        maps = {"setgroups": "deny", "uid_map": f"0 {os.geteuid()} 1", "gid_map": f"0 {os.getegid()} 1"}
        namespaces.unshare(flags)
        for name, line in maps.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
"""

as_each = pytest.mark.parametrize("identity", confined.IDENTITIES)


@as_each
def test_dumpable_is_set_and_read(identity: int | None):
    source = """
        seen = [kernel.is_dumpable()]
        kernel.set_dumpable(False)
        seen.append(kernel.is_dumpable())
        pid = os.fork()
        if pid == 0:
            os._exit(kernel.is_dumpable())
        answer([*seen, os.waitpid(pid, 0)[1], attempt(open, "/proc/self/mem")])
    """
    before, after, inherited, own_memory = confined.answer_of(source, identity=identity)
    assert (before, after, inherited) == (True, False, 0)
    assert own_memory == ("done" if identity is None and os.geteuid() == 0 else "EACCES")


@as_each
def test_no_new_privs_stays_over_exec(identity: int | None):
    source = """
        before = kernel.has_no_new_privs()
        kernel.set_no_new_privs()
        shown = subprocess.check_output(["/bin/grep", "NoNewPrivs", "/proc/self/status"], text=True)
        answer([before, kernel.has_no_new_privs(), shown.split()[1]])
    """
    assert confined.answer_of(source, identity=identity) == [False, True, "1"]


@as_each
def test_a_process_dies_with_its_parent(identity: int | None):
    source = """
        ready, make_ready = os.pipe()
        gone, held_open = os.pipe()
        if os.fork() == 0:
            if os.fork() == 0:
                kernel.set_parent_death_signal(signal.SIGKILL)
                os.write(make_ready, b"x")
                time.sleep(60)
            os.read(ready, 1)
            os._exit(0)
        os.close(held_open)
        before = time.monotonic()
        os.read(gone, 1)
        answer(time.monotonic() - before)
    """
    assert confined.answer_of(source, identity=identity) < 30


@as_each
def test_all_capabilities_go(identity: int | None):
    source = """
        capabilities.clear()
        answer(capabilities.get())
    """
    assert confined.answer_of(source, identity=identity) == [0, 0, 0]


@as_each
def test_an_emptied_bounding_set_gives_an_exec_nothing(identity: int | None):
    # In a user namespace of its own each user has all capabilities, and as its root each exec would get them again.
    source = """
        become_root(namespaces.CLONE_NEWUSER)
        show = ["/bin/grep", "-E", "Cap(Prm|Bnd)", "/proc/self/status"]
        before = subprocess.check_output(show, text=True).split()
        capabilities.drop_bounding_set()
        capabilities.clear()
        answer([before, subprocess.check_output(show, text=True).split()])
    """
    before, after = confined.answer_of(source, identity=identity, setup=BECOME_ROOT)
    assert all(int(before[place], 16) for place in (1, 3))
    assert (int(after[1], 16), int(after[3], 16)) == (0, 0)


@as_each
def test_ambient_capabilities_outlive_an_exec(identity: int | None):
    source = """
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        show = ["/bin/grep", "CapEff", "/proc/self/status"]
        before = subprocess.check_output(show, text=True).split()[1]
        permitted = capabilities.get()[1]
        capabilities.raise_ambient()
        after = subprocess.check_output(show, text=True).split()[1]
        capabilities.clear_ambient()
        answer([int(before, 16), int(after, 16) == permitted != 0, subprocess.check_output(show, text=True).split()[1]])
    """
    before, kept, cleared = confined.answer_of(source, identity=identity)
    assert (before, kept, int(cleared, 16)) == (0, True, 0)


@as_each
def test_namespaces_and_mounts_make_a_new_root(identity: int | None):
    source = """
        become_root(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
        namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        namespaces.mount("tmpfs", "/tmp", "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, "size=1m")
        os.makedirs("/tmp/usr")
        os.makedirs("/tmp/old")
        bind = namespaces.MS_BIND
        namespaces.mount("/usr", "/tmp/usr", None, bind | namespaces.MS_REC)
        kept = namespaces.locked_flags("/tmp/usr")
        namespaces.mount(None, "/tmp/usr", None, bind | namespaces.MS_REMOUNT | namespaces.MS_RDONLY | kept)
        namespaces.pivot_root("/tmp", "/tmp/old")
        os.chdir("/")
        namespaces.unmount("/old", namespaces.MNT_DETACH)
        os.rmdir("/old")
        answer([os.listdir("/"), attempt(os.mkdir, "/usr/new"), bool(os.statvfs("/").f_flag & os.ST_NOSUID)])
    """
    assert confined.answer_of(source, identity=identity, setup=BECOME_ROOT) == [["usr"], "EROFS", True]


def test_a_namespace_is_joined_by_its_descriptor():
    source = """
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        outer = os.open("/proc/self/ns/uts", os.O_RDONLY)
        namespaces.unshare(namespaces.CLONE_NEWUTS)
        inner = os.open("/proc/self/ns/uts", os.O_RDONLY)
        namespaces.unshare(namespaces.CLONE_NEWUTS)
        namespaces.setns(inner, namespaces.CLONE_NEWUTS)
        same = os.readlink("/proc/self/ns/uts") == f"uts:[{os.fstat(inner).st_ino}]"
        try:
            namespaces.setns(outer, namespaces.CLONE_NEWUTS)
        except OSError as error:
            answer([same, str(error)])
    """
    same, refusal = confined.answer_of(source)
    assert same
    assert refusal.startswith("[Errno 1] setns uts by descriptor ")


def test_flags_are_named():
    both = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET
    assert (namespaces.named(both), namespaces.named(0)) == ("user+network", "0x0")


def test_a_failure_tells_what_was_tried():
    with pytest.raises(OSError, match="mount tmpfs tmpfs on /nowhere") as caught:
        namespaces.mount("tmpfs", "/nowhere", "tmpfs", 0, "size=1m")
    assert caught.value.errno in (1, 2)


def test_a_path_that_c_would_cut_is_refused():
    with pytest.raises(OSError, match="NUL byte in a path of 9 bytes"):
        namespaces.unmount("/tmp\0/etc")


def test_signals_are_read_from_a_descriptor():
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    descriptor = kernel.signalfd([signal.SIGUSR1], kernel.SFD_CLOEXEC | kernel.SFD_NONBLOCK)
    try:
        # To this thread: another test's library may have threads that do not block the signal.
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        record = os.read(descriptor, 128)
        assert int.from_bytes(record[:4], "little") == signal.SIGUSR1
        assert int.from_bytes(record[12:16], "little") == os.getpid()
        assert not os.get_inheritable(descriptor)
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 128)
    finally:
        os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


@pytest.mark.parametrize("built_in", [True, False])
def test_a_process_is_held_by_a_descriptor(monkeypatch: pytest.MonkeyPatch, built_in: bool):
    if not built_in:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    descriptor = kernel.pidfd_open(os.getpid())
    try:
        assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)
