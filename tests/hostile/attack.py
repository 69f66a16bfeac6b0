"""Programs that attack: what they all need, and how their findings come back."""

from __future__ import annotations

import json
import platform
import textwrap
from typing import Any

from sandbox_runtime import syscall_numbers
from tests.sandboxes import Result, Sandboxes

PRELUDE = f"""
import ctypes, errno, fcntl, glob, json, mmap, os, random, resource, shutil, signal, socket, stat, subprocess, sys
import tempfile, threading, time
NUMBERS = json.loads({json.dumps(json.dumps(syscall_numbers.table(platform.machine())))})
def parent(pid):
    return int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])

ZYGOTE = 1
# The processes whose parent is outside. In pods the supervisor is exec'd, and may have any number.
[SUPERVISOR] = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != ZYGOTE and not parent(pid)]
CONTROL = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1  # where the child's runtime reports its status
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def attempt(function, *arguments):
    '''"done", or the name of the error.'''
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "done"

def raw(name, *arguments):
    '''A system call by name or number, without libc's opinion of it.'''
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = libc.syscall(ctypes.c_long(name if isinstance(name, int) else NUMBERS[name]), *words)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "done"

def children(count, function, *arguments):
    '''Fork; each child does it and ends.'''
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                function(*arguments)
            finally:
                os._exit(0)
        pids.append(pid)
    return pids

def answer(value):
    print(json.dumps(value), flush=True)
"""


def program(source: str) -> str:
    return PRELUDE + textwrap.dedent(source)


def run(boxes: Sandboxes, source: str, *arguments: str, **how: Any) -> Result:
    """Run the prelude and the lines."""
    return boxes.run(program(source), args=arguments, **how)


def answer_of(boxes: Sandboxes, source: str, *arguments: str, **how: Any) -> Any:
    """Run them, and return what they `answer`, which is the last line of their output."""
    result = run(boxes, source, *arguments, **how)
    assert result.exit_code == 0, (result.outcome, result.stderr)
    return json.loads(result.stdout.splitlines()[-1])
