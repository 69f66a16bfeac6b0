"""A program behaves in a sandbox as `python /workspace/__main__.py` does.

Each program of `programs/` runs twice: in the armed child of a zygote that has libraries loaded, and, in the
same sandbox without all that, in a fresh interpreter. What comes out must be the same to the byte, but for PERMITTED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from sandbox_runtime.child import COLD
from tests.contract import odd_sources, samples
from tests.places import Place
from tests.sandboxes import SCIENCE, Result, Sandboxes

ALL = [*samples.read_all(), *odd_sources.all_odd()]
FEWEST = 300


class Permitted(msgspec.Struct, frozen=True):
    """Text of stdout and stderr that may differ, and why: what the pattern matches, but for its group."""

    why: str
    pattern: bytes

    def without(self, text: bytes) -> bytes:
        return re.sub(self.pattern, rb"\1", text)


PERMITTED = [
    Permitted("addresses of objects", rb"(0x)[0-9a-f]{6,}"),
    Permitted("time that passed", rb"(Ran \d+ tests? in )[0-9.]+s"),
    Permitted("some recursion frames of C are below the program", rb"(\[Previous line repeated )\d+"),
    Permitted("the same frames: which call was one too many", rb"(maximum recursion depth exceeded).*"),
    Permitted("the same frames, counted", rb"(at the recursion depth )\d+"),
    Permitted("one reference more to an exception while it is printed", rb"(object refcount : )\d+"),
    Permitted("command line, modules and frozen objects are the zygote's", rb"(as the zygote has it: ).*"),
    Permitted("extension modules are loaded", rb"()\nExtension modules: .*\n"),
    Permitted("what was loaded keeps the module that a file of the program shadows", rb"(library's own module: ).*"),
    Permitted("sys.modules is not emptied at the end", rb"(imported at the end: ).*"),
    Permitted("the interpreter has started before the request's variables came", rb"(hash as by the request: ).*"),
    Permitted("the status is reported on a descriptor", rb"(), 1023(?=\])"),
    Permitted("tracing ends with the program, before our functions run", rb"()traced after the end: .*\n"),
]


@pytest.fixture(scope="module")
def warm(place: Place) -> Iterator[Sandboxes]:
    with place.sandboxes(preload=SCIENCE) as boxes:
        yield boxes


@pytest.fixture(scope="module")
def cold(place: Place) -> Iterator[Sandboxes]:
    with place.sandboxes(left_out=[COLD]) as boxes:
        yield boxes


@pytest.fixture(scope="module")
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def run(sample: samples.Sample, boxes: Sandboxes) -> Result:
    return boxes.run(sample.code, stdin=sample.stdin, args=sample.args, env=sample.env, files=sample.files)


def what_came_of(result: Result) -> dict[str, object]:
    """All that is compared."""
    return {
        "stdout": shown(result.stdout_bytes),
        "stderr": shown(result.stderr_bytes),
        "exit_code": result.exit_code,
        "reason": result.outcome.reason,
        "signal": result.outcome.signal,
        "files": result.files,
    }


def shown(text: bytes) -> list[bytes]:
    for permitted in PERMITTED:
        text = permitted.without(text)
    return text.split(b"\n")


@pytest.mark.parametrize("sample", ALL, ids=[sample.name for sample in ALL])
def test_it_behaves_as_python_does(sample, warm, cold, aside):
    reference = aside.submit(run, sample, cold)

    result = run(sample, warm)

    assert what_came_of(result) == what_came_of(reference.result())


def test_there_are_enough_programs_and_no_two_of_one_name():
    assert len({sample.name for sample in ALL}) == len(ALL) >= FEWEST


def test_the_reference_is_a_fresh_interpreter(warm, cold):
    code = "import sys; print('numpy' in sys.modules)"

    loaded = [boxes.run(code).stdout.strip() for boxes in (warm, cold)]

    assert loaded == ["True", "False"]
