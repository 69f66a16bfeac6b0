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
    from collections.abc import Iterator, Sequence

ENTRY = "__main__.py"
MAX_DEPTH = 64
"""Folders below the workspace that are looked into. Deeper ones are named as skipped."""

MAX_SKIPPED_CHARS = 500
"""Of a path that was left out. Twenty of them must fit into one frame, and JSON may need 12 bytes for a character."""

RESOURCE_OF = {errno.ENOSPC: "disk", errno.EDQUOT: "disk", errno.EFBIG: "file_size"}


_NO_FILE = -1


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
            self._open(path)
        self._write(piece.data)
        if piece.last:
            self._close()

    def _open(self, path: str) -> None:
        if path in self.digests:
            raise wire.WireError("two inputs of one path")
        place = os.path.join(self._root, path)
        self._make_folders(path)
        self._file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._path, self._size_bytes, self._hash = path, 0, hashlib.sha256()

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
        os.close(self._file)
        self._file = _NO_FILE
        self.digests[self._path] = (self._size_bytes, self._hash.digest())


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

    def __init__(self, inputs: Inputs, caps: Caps, deadline: float, root: str = program.WORKSPACE) -> None:
        self.skipped: list[list[str]] = []
        self.skipped_count = 0
        self._inputs, self._caps, self._deadline, self._root = inputs, caps, deadline, root
        self._files = self._total_bytes = 0
        self._seen: set[int] = set()

    def pieces(self) -> Iterator[wire.File]:
        for name, entry in self._walk():
            path = self._sendable(name, entry)
            if path is not None:
                yield from self._read(path, name)

    def _walk(self) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
        folders = [b""]
        while folders:
            folder = folders.pop()
            for entry in self._entries(folder):
                name = os.path.join(folder, entry.name)
                if not entry.is_dir(follow_symlinks=False):
                    yield name, entry
                elif name.count(b"/") < MAX_DEPTH:
                    folders.append(name)
                else:
                    self._skip(name, "too_deep")

    def _entries(self, folder: bytes) -> list[os.DirEntry[bytes]]:
        try:
            with os.scandir(os.path.join(self._root.encode(), folder)) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self._skip(folder or b".", "unreadable")
            return []

    def _sendable(self, name: bytes, entry: os.DirEntry[bytes]) -> str | None:
        """The file's path when it is to be returned; else it is skipped with a reason, or has none to be named."""
        if name == ENTRY.encode():
            return None
        path = name.decode("utf-8", "replace")
        reason = self._objection(name, path, entry)
        if reason:
            self._skip(name, reason)
        return None if reason else path

    def _objection(self, name: bytes, path: str, entry: os.DirEntry[bytes]) -> str | None:
        if path.encode() != name:
            return "name_not_utf8"
        try:
            state = entry.stat(follow_symlinks=False)
        except OSError:  # in a folder that may be listed and not entered, or by a path that is too long
            return "unreadable"
        if not stat.S_ISREG(state.st_mode):
            return "not_regular"
        if state.st_ino in self._seen:
            return "hard_link"
        if not checks.relative_path(path):
            return "too_deep"
        return None

    def _skip(self, name: bytes, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < 20:
            self.skipped.append([name.decode("utf-8", "replace")[:MAX_SKIPPED_CHARS], reason])

    def _read(self, path: str, name: bytes) -> Iterator[wire.File]:
        try:
            # SECURITY: a FIFO must not block, a link must not lead anywhere, whatever stat said before.
            file = os.open(
                os.path.join(self._root.encode(), name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError:
            self._skip(name, "unreadable")
            return
        try:
            if self._is_new(path, file) and self._admit(name, os.fstat(file)):
                yield from self._content(path, file)
        finally:
            os.close(file)

    def _is_new(self, path: str, file: int) -> bool:
        staged = self._inputs.digests.get(path)
        return staged is None or staged[0] != os.fstat(file).st_size or staged[1] != _digest(file)

    def _admit(self, name: bytes, state: os.stat_result) -> bool:
        reason = self._excess(state.st_size)
        if reason:
            self._skip(name, reason)
            return False
        self._seen.add(state.st_ino)
        self._files += 1
        self._total_bytes += state.st_size
        return True

    def _excess(self, size_bytes: int) -> str | None:
        if time.monotonic() > self._deadline:
            return "too_late"
        if size_bytes > self._caps.file_bytes:
            return "too_large"
        if self._files >= self._caps.files:
            return "too_many"
        return "total_too_large" if self._total_bytes + size_bytes > self._caps.total_bytes else None

    def _content(self, path: str, file: int) -> Iterator[wire.File]:
        os.lseek(file, 0, os.SEEK_SET)
        data = os.read(file, wire.MAX_CHUNK_BYTES)
        while True:
            following = os.read(file, wire.MAX_CHUNK_BYTES) if data else b""
            yield wire.File(path=path, data=data, last=not following)
            if not following:
                return
            data = following


def _digest(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    while True:
        data = os.read(file, 1 << 20)
        if not data:
            return digest.digest()
        digest.update(data)
