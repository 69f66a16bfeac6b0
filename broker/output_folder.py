"""Files of a sandbox on their way into a folder of ours: never outside of it, never through a link."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotWritten(Exception):
    """It would lie outside, or something stands in its way."""


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

    def write(self, path: str, data: bytes, *, last: bool) -> None:
        """Raises `NotWritten`."""
        if self._file < 0:
            self._begin(path)
        _write_all(self._file, data)
        if last:
            self._finish(path.rpartition("/")[2])

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
            except OSError as error:
                raise NotWritten(f"{'/'.join(folders)!r} is no folder but a link or a file; not written.") from error
            finally:
                os.close(current)
            current = following
        return current

    def _finish(self, name: str) -> None:
        os.close(self._file)
        try:
            self._name(name)
        except FileExistsError as error:
            raise NotWritten(f"{name!r} is there already; not written. --overwrite replaces it.") from error
        except OSError as error:
            raise NotWritten(f"{name!r} cannot be written: {error.strerror}.") from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self._partial, dir_fd=self._folder)
            os.close(self._folder)
            self._file = -1

    def _name(self, name: str) -> None:
        """Neither call follows a link of that name: one fails, one replaces it."""
        call = os.rename if self._overwrite else os.link
        call(self._partial, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)


def _step(parent: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
