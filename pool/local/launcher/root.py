"""The root that all sandboxes of a template share: read-only, and nothing in it that a program does not need."""

from __future__ import annotations

import os

from sandbox_runtime import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

_BASE = "/mnt"
_READ_ONLY = namespaces.MS_RDONLY | namespaces.MS_NOSUID | namespaces.MS_NODEV
_READ_ONLY_DEVICE = namespaces.MS_RDONLY | namespaces.MS_NOSUID
_DEVICES = ("null", "zero", "full", "random", "urandom")
_FOLDERS = ("old", "proc", "dev", "dev/shm", "workspace", "tmp", "etc", "run", "var", "var/tmp", "root", "home")
_LINKS = {
    "dev/fd": "/proc/self/fd",
    "dev/stdin": "/proc/self/fd/0",
    "dev/stdout": "/proc/self/fd/1",
    "dev/stderr": "/proc/self/fd/2",
    "etc/mtab": "/proc/self/mounts",
}
_ETC = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nsandbox:x:65532:65532:sandbox:/tmp:/bin/bash\n",
    "group": "root:x:0:\nsandbox:x:65532:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
    "host.conf": "",
}
_COPIES = ("/etc/ld.so.cache", "/etc/mime.types")
_TREES_IN_ETC = ("/etc/alternatives", "/etc/ssl/certs", "/etc/fonts")


FONT_LISTS = "/etc/matplotlib"
"""Where the root has matplotlib's font list. matplotlib turns its back on a folder that it cannot write
to, and would search all fonts again: so each sandbox has a folder with a link to it."""


def build(trees: list[str], font_lists: str, writable: bool, keep_host: bool) -> None:
    """Build the root and move into it. The caller is alone in its mount namespace, and seals the root later.

    `trees` are the folders of the programs' environment. `writable` and `keep_host` (which leaves the host's root at
    /old) are for the tests of the steps `read_only_root` and `mount_namespace`.
    """
    namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    handles = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _present(["/usr", *trees])}
    namespaces.mount(
        "tmpfs", _BASE, "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, "size=16m,nr_inodes=2k,mode=755"
    )
    _fill()
    _copy_folder(font_lists, _BASE + FONT_LISTS)
    for path in _present(["/usr", *_real_top_level(), *_TREES_IN_ETC, *trees]):
        _bind(path, _BASE + path, writable, handles.get(path))
    for device in _DEVICES:
        _bind_device(device, writable)
    # In a user namespace the kernel lets us mount a new /proc only while another one is fully visible.
    namespaces.mount("/proc", _BASE + "/proc", None, namespaces.MS_BIND | namespaces.MS_REC)
    _move_in()
    if not keep_host:
        _leave_the_host()


def make_read_only(trees: list[str]) -> None:
    """Make what programs are run from read-only in this mount namespace, before a template is exec'd from it.

    SECURITY: /proc/self/exe of a guest leads to the mount that its template was exec'd from, wherever the root is now.
    As an ordinary user a guest owns what the service's user owns: it could change the interpreter's mode, times and
    attributes, which Landlock does not hold (tests/hostile/test_secrets.py).
    """
    for path in _present(["/usr", *_real_top_level(), *trees]):
        _bind(path, path, writable=False)


def hidden_by(folders: tuple[str, ...], trees: list[str]) -> list[tuple[str, int]]:
    """The trees that mounts on these folders will hide, each with a handle of this mount namespace.

    An environment below /tmp works for what is preloaded, and fails at the first lazy import and for `sys.executable`.
    """
    below = [tree for tree in trees if any(f"{tree}/".startswith(f"{folder}/") for folder in folders)]
    return [(tree, os.open(tree, os.O_PATH | os.O_CLOEXEC)) for tree in _present(below)]


def show_again(hidden: list[tuple[str, int]], writable: bool) -> None:
    """Bind them over what hides them now."""
    for tree, handle in hidden:
        _bind(tree, tree, writable, handle)
        os.close(handle)


def seal() -> None:
    """From here on nothing in the root can be written."""
    namespaces.mount("none", "/", None, namespaces.MS_BIND | namespaces.MS_REMOUNT | _READ_ONLY)


def _present(paths: list[str]) -> list[str]:
    return [path for path in paths if os.path.isdir(path)]


def _real_top_level() -> list[str]:
    """/bin and its like where they are folders of their own; elsewhere they are links into /usr."""
    return [path for path in ("/bin", "/sbin", "/lib", "/lib64") if not os.path.islink(path)]


def _fill() -> None:
    for folder in _FOLDERS:
        os.mkdir(os.path.join(_BASE, folder))
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), os.path.join(_BASE, name))
    for name, target in _LINKS.items():
        os.symlink(target, os.path.join(_BASE, name))
    for name, text in _ETC.items():
        _write(os.path.join(_BASE, "etc", name), text.encode())
    for name in filter(os.path.exists, _COPIES):
        _copy(name, _BASE + name)


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as file:
        _write(target, file.read())


def _copy_folder(source: str, target: str) -> None:
    os.mkdir(target)
    for name in os.listdir(source) if os.path.isdir(source) else []:
        _copy(os.path.join(source, name), os.path.join(target, name))


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _bind(source: str, target: str, writable: bool, handle: int | None = None) -> None:
    # An environment below /mnt is hidden by the new root's own mount: the handle was opened before.
    origin = source if handle is None else f"/proc/self/fd/{handle}"
    os.makedirs(target, exist_ok=True)
    namespaces.mount(origin, target, None, namespaces.MS_BIND)
    if not writable:
        flags = namespaces.MS_BIND | namespaces.MS_REMOUNT | _READ_ONLY | namespaces.locked_flags(target)
        namespaces.mount("none", target, None, flags)


def _bind_device(name: str, writable: bool) -> None:
    target = os.path.join(_BASE, "dev", name)
    _write(target, b"")
    namespaces.mount("/dev/" + name, target, None, namespaces.MS_BIND)
    if not writable:
        # SECURITY: who may write to a device may set its times, and it is the host's own: a message to all sandboxes
        # (tests/hostile/test_steps.py). What is written to it passes: a device is not its file system's to keep.
        flags = namespaces.MS_BIND | namespaces.MS_REMOUNT | _READ_ONLY_DEVICE | namespaces.locked_flags(target)
        namespaces.mount("none", target, None, flags)


def _move_in() -> None:
    os.chdir(_BASE)
    namespaces.pivot_root(".", "old")
    os.chdir("/")


def _leave_the_host() -> None:
    namespaces.unmount("/old", namespaces.MNT_DETACH)
    os.rmdir("/old")
