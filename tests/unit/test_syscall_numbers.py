from __future__ import annotations

import pytest

from sandbox_runtime import syscall_numbers
from tests.unit import kernel_headers
from tests.unit.everyday_calls import EVERYDAY


@pytest.mark.parametrize("machine", syscall_numbers.MACHINES)
def test_the_kernels_headers_agree(machine: str):
    theirs = kernel_headers.numbers(machine)  # empty without headers; older headers lack the newest calls
    column = syscall_numbers.MACHINES.index(machine)
    everyday = {name: numbers[column] for name, numbers in EVERYDAY.items()}
    ours = {**everyday, **syscall_numbers.table(machine)}
    assert {name: number for name, number in ours.items() if number != theirs.get(name, number)} == {}


def test_the_headers_have_none_that_aarch64_is_said_to_lack():
    theirs = kernel_headers.numbers("aarch64")
    said_to_lack = {name for name, (_, aarch64) in syscall_numbers.SEPARATE.items() if aarch64 is None}
    assert said_to_lack & set(theirs) == set()


@pytest.mark.parametrize("machine", syscall_numbers.MACHINES)
def test_no_number_stands_twice_or_beyond_the_newest(machine: str):
    numbers = list(syscall_numbers.table(machine).values())
    assert len(numbers) == len(set(numbers))
    assert max(numbers) <= syscall_numbers.NEWEST_WEIGHED


def test_an_unknown_machine_is_named():
    with pytest.raises(OSError, match="'riscv64'; there are for x86_64, aarch64"):
        syscall_numbers.table("riscv64")
