"""Runs a few lines in a fresh `python -I -S`, where they may lock themselves down: what is done to it dies with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

RUNTIME = Path(__file__).resolve().parents[2] / "sandbox-runtime"

ORDINARY_UID = 65100
# As whoever runs the tests and, where that is root, as an ordinary user too.
IDENTITIES = (None, ORDINARY_UID) if os.geteuid() == 0 else (None,)

# The uid changes after the imports: the checkout, and Python's own library, may be out of the ordinary user's reach.
PRELUDE = f"""
import encodings.ascii, errno, fcntl, json, mmap, os, resource, signal, socket, subprocess, sys, threading, time
sys.path.insert(0, {str(RUNTIME)!r})
import ctypes
from sandbox_runtime import capabilities, kernel, landlock, namespaces, rlimits, seccomp, seccomp_rules, syscall_numbers
identity, arguments = json.loads(sys.argv[1])
if identity is not None:
    os.setgroups([])
    os.setresgid(identity, identity, identity)
    os.setresuid(identity, identity, identity)
    kernel.set_dumpable(True)

def attempt(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def raw(name, *arguments, number=None):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    chosen = syscall_numbers.number(name) if number is None else number
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in (chosen, *arguments)])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "done"

def sleeper():
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        kernel.set_parent_death_signal(signal.SIGKILL)
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)  # a parent that ends before the signal is set leaves a sleeper that holds the output open
    return pid

def answer(value):
    print(json.dumps(value), flush=True)
"""


def start(
    source: str, *arguments: object, identity: int | None = None, setup: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the prelude, `setup` and the lines; what they `answer` is the last line of the output."""
    lines = PRELUDE + textwrap.dedent(setup) + textwrap.dedent(source)
    command = [sys.executable, "-I", "-S", "-c", lines, json.dumps([identity, arguments])]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def answer_of(source: str, *arguments: object, identity: int | None = None, setup: str = "") -> Any:
    finished = start(source, *arguments, identity=identity, setup=setup)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])
