"""Where an input may be put: below the workspace, at a place of its own. Pure."""

from __future__ import annotations

from itertools import pairwise

from broker.errors import Unprocessable

ENTRYPOINT = "__main__.py"
MAX_PATH_BYTES = 4096 - len("/workspace/") - 1
"""The kernel takes 4096 with the folder before it and the NUL behind it (PATH_MAX)."""
MAX_NAME_BYTES = 255
_SHOWN_CHARS = 256


def workspace_path(given: str) -> str:
    """The path below the workspace, without `.` and empty parts. Raises `Unprocessable`."""
    if given.startswith("/"):
        raise Unprocessable("File paths must be relative.")
    parts = [part for part in given.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unprocessable("File paths must not contain '..'.")
    if not parts:
        raise Unprocessable("File path must not be empty.")
    if parts[0] == ENTRYPOINT:
        raise Unprocessable(f"File path '{ENTRYPOINT}' is reserved for the execution entrypoint.")
    return _writable("/".join(parts), parts)


def _writable(path: str, parts: list[str]) -> str:
    if "\0" in path:
        raise Unprocessable("File paths must not contain NUL.")
    if max(len(part.encode()) for part in parts) > MAX_NAME_BYTES or len(path.encode()) > MAX_PATH_BYTES:
        raise Unprocessable(
            f"File path is too long: at most {MAX_NAME_BYTES} bytes a name and {MAX_PATH_BYTES} in all."
        )
    return path


def check_paths(paths: list[str]) -> None:
    """Each path once, and none below another. Raises `Unprocessable`."""
    # In this order a folder stands right before what is below it, so one pass over neighbours is enough.
    in_order = sorted(path.split("/") for path in paths)
    for parent, path in pairwise(in_order):
        if parent == path:
            raise Unprocessable(f"File path '{_shown(path)}' is given more than once.")
        if path[: len(parent)] == parent:
            raise Unprocessable(f"File path '{_shown(parent)}' is also a folder of '{_shown(path)}'.")


def _shown(parts: list[str]) -> str:
    return "/".join(parts)[:_SHOWN_CHARS]
