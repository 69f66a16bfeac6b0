"""Files of a sandbox on their way into a folder of ours: never outside of it, never through a link."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR)


class NotWritten(Exception):
    """It would lie outside, something stands in its way, or it cannot be written. The text says which."""


class OutputFolder:
    """One file at a time, in pieces; an incomplete one leaves no trace.

    What is there already is replaced only with `overwrite`: the names are a sandbox's choice, and `.git/config` or
    `Makefile` would be run later by whoever works in that folder.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        path.mkdir(parents=True, exist_ok=True)
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = -1
        self._folder = -1
        self._partial = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()
        os.close(self._root)

    def write(self, path: str, data: bytes, *, last: bool) -> None:
        """Raises `NotWritten`; then nothing is left of this file, and others may follow."""
        try:
            if self._file < 0:
                self._begin(path)
            _write_all(self._file, data)
            if last:
                self._name(path.rpartition("/")[2])
                self.abandon()
        except (OSError, UnicodeEncodeError) as error:
            self.abandon()
            raise NotWritten(_why(path, error, overwrite=self._overwrite)) from error

    def _begin(self, path: str) -> None:
        *folders, name = path.split("/")
        # SECURITY: the path comes from a sandbox (tests/unit/test_output_folder.py).
        if any(part in ("", ".", "..") or "\0" in part for part in (*folders, name)):
            raise NotWritten(f"{path!r} is no path below the output folder; not written.")
        self._folder = self._below(folders)
        self._partial = f".{uuid.uuid4().hex}.partial"
        self._file = os.open(self._partial, _NEW_FILE, 0o644, dir_fd=self._folder)

    def _below(self, folders: list[str]) -> int:
        """A descriptor of the folder, made where needed; each step by its parent's, so no link can come between."""
        current = os.dup(self._root)
        for name in folders:
            try:
                following = _step(current, name)
            finally:
                os.close(current)
            current = following
        return current

    def _name(self, name: str) -> None:
        """Neither way follows a link of that name: one fails, one replaces it."""
        if not self._overwrite:
            # Not by `link`, which some file systems lack: the name is taken first, and then it is ours to replace.
            os.close(os.open(name, _NEW_FILE, 0o644, dir_fd=self._folder))
        try:
            os.rename(self._partial, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            if not self._overwrite:
                os.unlink(name, dir_fd=self._folder)
            raise

    def abandon(self) -> None:
        """Forget the file under way; of one that was not named nothing stays."""
        if self._file >= 0:
            os.close(self._file)
            with suppress(OSError):
                os.unlink(self._partial, dir_fd=self._folder)
        if self._folder >= 0:
            os.close(self._folder)
        self._file = self._folder = -1


def _why(path: str, error: OSError | UnicodeEncodeError, *, overwrite: bool) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"{path!r} is no name that a file can have; not written."
    if error.errno == errno.EEXIST and not overwrite:
        return f"{path!r} is there already; not written. --overwrite replaces files."
    if error.errno in _IN_THE_WAY:
        return f"{path!r} would lie behind a link or a file; not written."
    return f"{path!r} cannot be written: {error.strerror}."


def _step(parent: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
