"""The workspace: putting inputs in before a run, and finding what the run made, after all guests are dead.

SECURITY: whatever is found here was made by an enemy. Nothing is followed, opened for writing,
decompressed or evaluated; every walk and every read is bounded (tests/hostile/test_outputs.py).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from contextlib import suppress

from sandbox_runtime import checks, program, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Found = tuple[bytes, bool, "os.stat_result | None"]
    """A name, whether it is a folder's, and what is known of it where it is none."""

ENTRY = "__main__.py"
MAX_DEPTH = 64
"""Folders below the workspace that are looked into. Deeper ones are named as skipped."""

MAX_SKIPPED_CHARS = 500
"""Of a path that was left out. Twenty of them must fit into one frame, and JSON may need 12 bytes for a character."""

RESOURCE_OF = {errno.ENOSPC: "disk", errno.EDQUOT: "disk", errno.EFBIG: "file_size"}


_NO_FILE = -1


class Tree:
    """The workspace while no guest lives: nobody moves what we look at."""

    is_shared = False

    def __init__(self, root: str = program.WORKSPACE) -> None:
        self._root = root.encode()

    def opened(self, name: bytes, flags: int) -> int:
        """A file or folder below, or "." itself. A link is never followed, a FIFO never waited for."""
        return os.open(os.path.join(self._root, name), flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


class Inputs:
    """What was staged: the program, its stdin, and files with the digest of their content."""

    def __init__(self, root: str = program.WORKSPACE) -> None:
        self.stdin = bytearray()
        self.digests: dict[str, tuple[int, bytes]] = {}
        self._root = root
        self._open_name: tuple[str, str] | None = None
        self._ended: set[tuple[str, str]] = set()
        self._file = _NO_FILE
        self._path = ""
        self._size_bytes = 0
        self._hash = hashlib.sha256()

    def add(self, piece: wire.Stage) -> None:
        """Take the next piece. Raises OSError when the workspace is full, `WireError` for a piece out of place."""
        name = piece.target, piece.path
        is_out_of_place = piece.target == "command" or name != (self._open_name or name) or name in self._ended
        if is_out_of_place or (piece.target == "file") != bool(piece.path):
            raise wire.WireError("a piece of an input out of place")
        if piece.target == "stdin":
            self.stdin += piece.data
        else:
            self._add_to_file(ENTRY if piece.target == "code" else piece.path, piece)
        self._open_name = None if piece.last else name
        if piece.last:
            self._ended.add(name)

    @property
    def is_open(self) -> bool:
        """Something has begun and not ended."""
        return self._open_name is not None

    def are_complete(self) -> bool:
        """The program is there, and nothing has begun that has not ended."""
        return ("code", "") in self._ended and self._open_name is None

    def _add_to_file(self, path: str, piece: wire.Stage) -> None:
        if self._file == _NO_FILE:
            if path in self.digests:
                raise wire.WireError("two inputs of one path")
            self._file = self._create(path)
            self._path, self._size_bytes, self._hash = path, 0, hashlib.sha256()
        self._write(piece.data)
        if piece.last:
            self._close()

    def _create(self, path: str) -> int:
        self._make_folders(path)
        place = os.path.join(self._root, path)
        return os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def _make_folders(self, path: str) -> None:
        # `os.makedirs` calls itself for each folder, and a path may have more of them than Python has frames.
        for end in [at for at, character in enumerate(path) if character == "/"]:
            with suppress(FileExistsError):
                os.mkdir(os.path.join(self._root, path[:end]))

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._size_bytes += len(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]

    def _close(self) -> None:
        file, self._file = self._file, _NO_FILE
        self._end(self._path, file)
        self.digests[self._path] = (self._size_bytes, self._hash.digest())

    def _end(self, path: str, file: int) -> None:
        """All of it is written."""
        os.close(file)


def full_resource(error: OSError, root: str = program.WORKSPACE) -> str | None:
    """The limit behind a failed write, or None when it was another error."""
    if error.errno == errno.ENOSPC and os.statvfs(root).f_ffree == 0:
        return "inodes"
    return RESOURCE_OF.get(error.errno or 0)


def limits_met(said: list[str], roots: Sequence[str]) -> list[str]:
    """The limits that the program's end speaks of, and those of the writable mounts that are used up now."""
    used_up = _exhausted(roots)
    # ENOSPC is the kernel's word for both, and the program's end calls it "disk".
    said = [name for name in said if name != "disk" or used_up != ["inodes"]]
    return said + [name for name in used_up if name not in said]


def _exhausted(roots: Sequence[str]) -> list[str]:
    states = [os.statvfs(root) for root in roots]
    hit = ["disk"] if any(state.f_bavail == 0 for state in states) else []
    return hit + (["inodes"] if any(state.f_ffree == 0 for state in states) else [])


def is_untouched(inputs: Inputs, root: str = program.WORKSPACE) -> bool:
    """True when it is plain at a glance that there is nothing to collect."""
    if len(inputs.digests) > 1:
        return False
    try:
        with os.scandir(root) as entries:
            return all(entry.name == ENTRY and entry.is_file(follow_symlinks=False) for entry in entries)
    except OSError:  # the program owns the folder, and may have closed it even to itself
        return False


class Caps:
    """How much is returned of one run."""

    __slots__ = ("files", "file_bytes", "total_bytes")

    def __init__(self, files: int, file_bytes: int, total_bytes: int) -> None:
        self.files, self.file_bytes, self.total_bytes = files, file_bytes, total_bytes


class Collection:
    """Yields pieces of the files that are new or changed; remembers what it left out."""

    def __init__(
        self, inputs: Inputs, caps: Caps, deadline: float, tree: Tree | None = None, *, since_ns: int = 0
    ) -> None:
        """What has not changed since then, on the clock of the files themselves, was there before."""
        self.skipped: list[list[str]] = []
        self.skipped_count = 0
        self._inputs, self._caps, self._deadline, self._since_ns = inputs, caps, deadline, since_ns
        self._tree = tree or Tree()
        self._admitted = self._total_bytes = 0
        self._seen: set[int] = set()

    def pieces(self) -> Iterator[wire.File]:
        return (step for step in self.steps() if step is not None)

    def steps(self) -> Iterator[wire.File | None]:
        """The pieces, and None where something else was done that took its time."""
        folders = [b""]
        while folders:
            yield None
            for name, state in self._files_in(folders.pop(), folders):
                path = self._sendable(name, state)
                if path is None:
                    yield None
                else:
                    yield from self._read(path, name)

    def _files_in(self, folder: bytes, folders: list[bytes]) -> Iterator[tuple[bytes, os.stat_result | None]]:
        """What is no folder; what is one is added to those that are left to be looked into."""
        for own_name, is_folder, state in self._entries(folder):
            name = os.path.join(folder, own_name)
            if not is_folder:
                yield name, state
            elif name.count(b"/") < MAX_DEPTH:
                folders.append(name)
            else:
                self._skip(name, "too_deep")

    def _entries(self, folder: bytes) -> list[Found]:
        try:
            opened = self._tree.opened(folder or b".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            self._skip(folder or b".", "unreadable")
            return []
        try:
            with os.scandir(opened) as entries:
                # By name: the kernel may list what is renamed meanwhile twice, and the same file twice is a lie.
                found = {each[0]: each for each in map(_looked_at, self._in_time(folder, entries))}
                return [found[name] for name in sorted(found)]
        finally:
            os.close(opened)

    def _in_time(self, folder: bytes, entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        for entry in entries:
            # SECURITY: a guest that lives can add to a folder, and move folders to where we have not been, for ever.
            if self._tree.is_shared and time.monotonic() > self._deadline:
                self._skip(folder or b".", "too_late")
                return
            yield entry

    def _sendable(self, name: bytes, state: os.stat_result | None) -> str | None:
        """The file's path when it is to be returned; else it is skipped with a reason, or has none to be named."""
        if name == ENTRY.encode() or (state is not None and state.st_ctime_ns < self._since_ns):
            return None
        path = name.decode("utf-8", "replace")
        reason = self._objection(name, path, state)
        if reason:
            self._skip(name, reason)
        return None if reason else path

    def _objection(self, name: bytes, path: str, state: os.stat_result | None) -> str | None:
        if path.encode() != name:
            return "name_not_utf8"
        if state is None:  # in a folder that may be listed and not entered
            return "unreadable"
        return self._kind_objection(state) or (None if checks.relative_path(path) else "too_deep")

    def _kind_objection(self, state: os.stat_result) -> str | None:
        if not stat.S_ISREG(state.st_mode):
            return "not_regular"
        return "hard_link" if state.st_ino in self._seen else None

    def _skip(self, name: bytes, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < 20:
            self.skipped.append([name.decode("utf-8", "replace")[:MAX_SKIPPED_CHARS], reason])

    def _read(self, path: str, name: bytes) -> Iterator[wire.File]:
        try:
            file = self._tree.opened(name, os.O_RDONLY)
        except OSError:
            self._skip(name, "unreadable")
            return
        try:
            # SECURITY: what was opened counts, whatever was there when we looked.
            state = os.fstat(file)
            if self._is_new(path, file, state.st_size) and self._admit(name, state):
                yield from _content(path, file, state.st_size)
        finally:
            os.close(file)

    def _is_new(self, path: str, file: int, size_bytes: int) -> bool:
        staged = self._inputs.digests.get(path)
        return staged is None or staged[0] != size_bytes or staged[1] != _digest(file, size_bytes)

    def _admit(self, name: bytes, state: os.stat_result) -> bool:
        reason = self._kind_objection(state) or self._excess(state.st_size)
        if reason:
            self._skip(name, reason)
            return False
        self._seen.add(state.st_ino)
        self._admitted += 1
        self._total_bytes += state.st_size
        return True

    def _excess(self, size_bytes: int) -> str | None:
        if time.monotonic() > self._deadline:
            return "too_late"
        if size_bytes > self._caps.file_bytes:
            return "too_large"
        if self._admitted >= self._caps.files:
            return "too_many"
        return "total_too_large" if self._total_bytes + size_bytes > self._caps.total_bytes else None


def _looked_at(entry: os.DirEntry[str]) -> Found:
    is_folder = entry.is_dir(follow_symlinks=False)
    return os.fsencode(entry.name), is_folder, None if is_folder else _state(entry)


def _state(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def _content(path: str, file: int, size_bytes: int) -> Iterator[wire.File]:
    chunks = _chunks(file, size_bytes, wire.MAX_CHUNK_BYTES)
    data = next(chunks, b"")
    for following in chunks:
        yield wire.File(path=path, data=data, last=False)
        data = following
    yield wire.File(path=path, data=data, last=True)


def _digest(file: int, size_bytes: int) -> bytes:
    digest = hashlib.sha256()
    for data in _chunks(file, size_bytes, 1 << 20):
        digest.update(data)
    return digest.digest()


def _chunks(file: int, size_bytes: int, chunk_bytes: int) -> Iterator[bytes]:
    """So much and no more. SECURITY: a guest that lives can write on for ever."""
    os.lseek(file, 0, os.SEEK_SET)
    while size_bytes > 0:
        data = os.read(file, min(chunk_bytes, size_bytes))
        if not data:
            return
        size_bytes -= len(data)
        yield data
