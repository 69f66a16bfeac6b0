from __future__ import annotations

import resource

import pytest

from sandbox_runtime import rlimits
from tests.unit import confined

MIB = 1 << 20
as_each = pytest.mark.parametrize("identity", confined.IDENTITIES)


@as_each
def test_each_limit_is_set_hard_and_told(identity: int | None):
    source = """
        in_use = rlimits.data_in_use_bytes()
        told = rlimits.apply(open_files=100, file_size_bytes=5000, processes=50, data_bytes=1 << 28)
        found = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in told}
        answer([in_use, told, found])
    """
    in_use, told, found = confined.answer_of(source, identity=identity)
    assert found == {name: [value, value] for name, value in told.items()}
    assert abs(told.pop("DATA") - (in_use + (1 << 28))) <= 4 * MIB
    zero = dict.fromkeys(("MSGQUEUE", "MEMLOCK", "RTPRIO", "NICE"), 0)
    assert told == {**zero, "CORE": 1, "NOFILE": 100, "FSIZE": 5000, "NPROC": 50}


def test_a_supervisor_may_have_all_the_descriptors_that_it_was_left():
    source = """
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500))
        rlimits.take_all_descriptors()
        answer(resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    assert confined.answer_of(source) == [500, 500]


def test_what_was_not_asked_for_stays():
    source = """
        before = [resource.getrlimit(resource.RLIMIT_NPROC), resource.getrlimit(resource.RLIMIT_DATA)]
        told = rlimits.apply(open_files=100, file_size_bytes=5000)
        after = [resource.getrlimit(resource.RLIMIT_NPROC), resource.getrlimit(resource.RLIMIT_DATA)]
        answer([before == after, "NPROC" in told or "DATA" in told])
    """
    assert confined.answer_of(source) == [True, False]


@as_each
def test_a_limit_is_never_raised(identity: int | None):
    source = """
        resource.setrlimit(resource.RLIMIT_NOFILE, (30, 50))
        told = rlimits.apply(open_files=100, file_size_bytes=5000)
        answer([told["NOFILE"], resource.getrlimit(resource.RLIMIT_NOFILE)])
    """
    assert confined.answer_of(source, identity=identity) == [50, [50, 50]]


@as_each
def test_they_hold_and_cannot_be_raised_again(identity: int | None):
    source = """
        capabilities.clear()
        rlimits.apply(open_files=30, file_size_bytes=5000, data_bytes=64 << 20)
        file = os.memfd_create("file")
        def many():
            kept = [os.dup(0) for _ in range(31)]
        def raised():
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (31, 31))
            except ValueError:
                raise PermissionError(errno.EPERM, "not allowed to raise maximum limit")
        def big():
            try:
                bytearray(128 << 20)
            except MemoryError:
                raise OSError(errno.ENOMEM, "MemoryError")
        answer({
            "descriptors": attempt(many),
            "file size": attempt(os.ftruncate, file, 5001),
            "small file": attempt(os.ftruncate, file, 5000),
            "raise": attempt(raised),
            "memory": attempt(big),
            "little memory": attempt(bytearray, 32 << 20),
            "nice": attempt(os.nice, -1),
            "real time": attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
            "mlock": attempt(kernel.libc_call, "mlock", "mlock", ctypes.create_string_buffer(4096), 4096),
        })
    """
    answer = confined.answer_of(source, identity=identity)
    assert answer.pop("nice") in ("EPERM", "EACCES")
    assert answer == {
        "descriptors": "EMFILE",
        "file size": "EFBIG",
        "small file": "done",
        "raise": "EPERM",
        "memory": "ENOMEM",
        "little memory": "done",
        "real time": "EPERM",
        "mlock": "EPERM",
    }


def test_processes_are_counted():
    source = """
        rlimits.apply(open_files=30, file_size_bytes=5000, processes=1)
        answer(attempt(sleeper))
    """
    identity = confined.IDENTITIES[-1]  # root is not counted
    assert confined.answer_of(source, identity=identity) == "EAGAIN"


def test_data_in_use_is_what_the_kernel_says():
    before = rlimits.data_in_use_bytes()
    kept = bytearray(64 * MIB)
    assert 64 * MIB <= rlimits.data_in_use_bytes() - before < 80 * MIB
    assert len(kept) == 64 * MIB


def test_each_row_names_a_limit_of_this_kernel_once():
    numbers = [limit.number for limit in rlimits.LIMITS]
    assert len(set(numbers)) == len(numbers)
    assert {resource.RLIMIT_CPU, resource.RLIMIT_STACK, resource.RLIMIT_AS} & set(numbers) == set()
