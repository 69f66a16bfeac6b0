"""The workspace while guests live in it: no path leads anywhere else, whatever they do to it at that moment.

A guest can put a link in a folder's place between a look and an opening. So the kernel is told, with each opening, to
follow no link and to stay below (openat2, Linux 5.6).

What is staged has no name until its call begins, and is then linked in place of whatever is there: no guest sees half
of it, and nothing that a guest has made is ever opened for writing.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
from contextlib import suppress

from sandbox_runtime import kernel, program, workspace

_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
RESOLVE = _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
"""SECURITY: without these, a guest that swaps folders and links reads and writes what we can
(tests/hostile/test_shared_workspace.py)."""

_HOW = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve

_TRIES = 100
"""To take a name that a guest takes again and again. More gives it more of our time."""


class Unsupported(OSError):
    """This kernel cannot stay below."""


class SharedTree(workspace.Tree):
    is_shared = True

    def __init__(self, root: str = program.WORKSPACE) -> None:
        """Raises `Unsupported`."""
        super().__init__(root)
        self._top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.close(self.opened(b".", os.O_PATH))
        except OSError as error:
            os.close(self._top)
            # EPERM comes from filters that are older than the call.
            kind = Unsupported if error.errno in (errno.ENOSYS, errno.EPERM) else OSError
            raise kind(error.errno, "openat2 (Linux 5.6) does not open the workspace") from error

    def opened(self, name: bytes, flags: int) -> int:
        # O_PATH takes no O_NONBLOCK here, and needs none.
        wait = 0 if flags & os.O_PATH else os.O_NONBLOCK
        how = _HOW.pack(flags | wait | os.O_NOFOLLOW | os.O_CLOEXEC, 0, RESOLVE)
        return kernel.system_call("openat2", "open a path of the workspace", self._top, name, how, len(how))

    def nameless(self) -> int:
        """A new file that nobody else can find."""
        return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=self._top)

    def link(self, file: int, path: str) -> None:
        """Give a nameless file its name. What has it loses it, but a folder. Raises OSError."""
        folder, _, name = path.rpartition("/")
        above = self._folder(folder)
        try:
            self._take(name, file, above)
        finally:
            os.close(above)

    def _take(self, name: str, file: int, folder: int) -> None:
        for _ in range(_TRIES):
            try:
                return os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=folder, follow_symlinks=True)
            except FileExistsError:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
        raise FileExistsError("a name that is taken again and again")

    def _folder(self, path: str) -> int:
        """Made with all above it, where it is not there."""
        try:
            return self._existing(path)
        except FileNotFoundError:
            for end in [at for at, character in enumerate(path) if character == "/"]:
                self._make_folder(path[:end])
            self._make_folder(path)
        return self._existing(path)

    def _existing(self, path: str) -> int:
        return self.opened(os.fsencode(path) or b".", os.O_PATH | os.O_DIRECTORY)

    def _make_folder(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        folder = self._existing(above)
        try:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
        finally:
            os.close(folder)


@functools.cache
def shared_tree() -> SharedTree:
    """Of the workspace, opened once: it is a mount, and stays. Raises `Unsupported`."""
    return SharedTree()


class StagedInputs(workspace.Inputs):
    """Of one call: files without names, until it begins."""

    def __init__(self, tree: SharedTree) -> None:
        super().__init__()
        self._tree = tree
        self._nameless: dict[str, int] = {}

    def _create(self, path: str) -> int:
        self._nameless[path] = self._tree.nameless()
        return self._nameless[path]

    def _end(self, path: str, file: int) -> None:
        """It stays open: else it would be gone."""

    def settle(self) -> int:
        """Give all of them their names, the program last. Returns when that was, in nanoseconds of the files' clock.

        Raises OSError with the path that has no place.
        """
        code = self._nameless.pop(workspace.ENTRY)
        try:
            for path, file in self._nameless.items():
                self._link(file, path)
            self._link(code, workspace.ENTRY)
            return os.fstat(code).st_ctime_ns
        finally:
            os.close(code)
            self.drop()

    def _link(self, file: int, path: str) -> None:
        try:
            self._tree.link(file, path)
        except OSError as error:
            error.filename = path
            raise

    def drop(self) -> None:
        """What has no name by then is gone."""
        for file in self._nameless.values():
            os.close(file)
        self._nameless.clear()
