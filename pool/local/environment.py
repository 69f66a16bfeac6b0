"""The environment that programs import from: a Python and its packages, never the service's own."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys

import msgspec

_ASK = """
import json, os, sys
print(json.dumps([os.path.abspath(sys.executable), sys.prefix, sys.base_prefix, list(sys.version_info[:3])]))
"""
OLDEST_PYTHON = (3, 9)
FIRST_PERSON = 1000
"""Lower uids are those of services (login.defs(5))."""


class EnvironmentUnusable(Exception):
    """There is no Python for programs, or one that cannot be used. The message says what to do."""


class ProgramEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """Where programs' Python and packages are."""

    python: str
    trees: tuple[str, ...]
    """Folders to show in the sandbox beside /usr."""
    font_lists: str
    """matplotlib's font list, made once when the environment was built; may be absent."""
    version: tuple[int, ...]


def find(folder: str) -> ProgramEnvironment:
    """Look at the environment in `folder` (a virtual environment). Raises `EnvironmentUnusable`."""
    python = os.path.join(os.path.abspath(folder), "bin", "python")
    if not os.access(python, os.X_OK):
        raise EnvironmentUnusable(f"no Python for programs at {python}: run `make`, or set BROKER_PROGRAMS to a venv")
    executable, prefix, base_prefix, version = _ask(python)
    # SECURITY: a program that can read the service's packages can read what an operator left beside them.
    if os.path.realpath(prefix) == os.path.realpath(sys.prefix):
        raise EnvironmentUnusable(f"{folder} is the service's own environment: programs need one of their own")
    if tuple(version) < OLDEST_PYTHON:
        raise EnvironmentUnusable(f"{python} is Python {version}, programs need 3.9 or later")
    trees = _outside_usr(prefix, base_prefix)
    _refuse_what_holds_more(trees)
    return ProgramEnvironment(
        python=executable,
        trees=trees,
        font_lists=os.path.join(prefix, "share", "matplotlib"),
        version=tuple(version),
    )


def _refuse_what_holds_more(trees: tuple[str, ...]) -> None:
    # SECURITY: programs can read all of it (tests/unit/test_environment.py).
    for tree in map(os.path.realpath, trees):
        private = [folder for folder in _private_folders() if os.path.commonpath([tree, folder]) == tree]
        private += [path for name in _PRIVATE_ENTRIES if os.path.lexists(path := os.path.join(tree, name))]
        if private:
            raise EnvironmentUnusable(
                f"the environment for programs is {tree}, and {private[0]} with it: every program could read it."
                " Make one in a folder of its own: `make`, or `python -m venv`"
            )


_PRIVATE_ENTRIES = (".ssh", ".aws", ".azure", ".kube", ".docker", ".gnupg", ".netrc", ".git", ".bash_history")


def _private_folders() -> set[str]:
    """Homes of people, and what holds them."""
    homes = {each.pw_dir for each in pwd.getpwall() if each.pw_uid == 0 or each.pw_uid >= FIRST_PERSON}
    named = {"/home", "/etc", os.path.expanduser("~"), *homes} - {"/", "/nonexistent"}
    return {os.path.realpath(folder) for folder in named if os.path.isabs(folder)}


def _ask(python: str) -> tuple[str, str, str, list[int]]:
    try:
        answer = subprocess.run(  # noqa: S603  # the operator's own Python, with no words of anybody else
            [python, "-I", "-c", _ASK], capture_output=True, check=True, timeout=30, env={}
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentUnusable(f"{python} does not run: {error}") from error
    executable, prefix, base_prefix, version = json.loads(answer.stdout)
    return executable, prefix, base_prefix, version


def _outside_usr(*folders: str) -> tuple[str, ...]:
    wanted = dict.fromkeys(path for folder in folders for path in (folder, os.path.realpath(folder)))
    return tuple(path for path in wanted if not f"{path}/".startswith("/usr/"))
