from __future__ import annotations

import struct

import pytest

from tests.unit import bpf

CALL = bpf.Call(number=5, architecture=0xC000003E, arguments=(1 << 32 | 7, -1))


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)


def test_a_call_is_laid_out_as_struct_seccomp_data():
    number, architecture, pointer, *arguments = struct.unpack("<IIQ6Q", CALL.packed())
    assert (number, architecture, pointer) == (5, 0xC000003E, 0)
    assert arguments == [1 << 32 | 7, (1 << 64) - 1, 0, 0, 0, 0]


def test_returns_its_operand():
    assert bpf.verdict(program((0x06, 0, 0, 42)), CALL) == 42


@pytest.mark.parametrize(
    ("offset", "value"), [(0, 5), (4, 0xC000003E), (16, 7), (20, 1), (24, 0xFFFFFFFF), (28, 0xFFFFFFFF), (32, 0)]
)
def test_loads_a_word(offset: int, value: int):
    loads = program((0x20, 0, 0, offset), (0x15, 0, 1, value), (0x06, 0, 0, 1), (0x06, 0, 0, 0))
    assert bpf.verdict(loads, CALL) == 1


@pytest.mark.parametrize(
    ("code", "operand", "holds"),
    [
        *[(0x15, 5, True), (0x15, 4, False), (0x25, 4, True), (0x25, 5, False)],
        *[(0x35, 5, True), (0x35, 6, False), (0x45, 4, True), (0x45, 2, False)],
    ],
)
def test_compares_and_takes_the_right_way(code: int, operand: int, holds: bool):
    compares = program((0x20, 0, 0, 0), (code, 1, 0, operand), (0x06, 0, 0, 0), (0x06, 0, 0, 1))
    assert bpf.verdict(compares, CALL) == holds


def test_jumps_over_instructions():
    assert bpf.verdict(program((0x05, 0, 0, 1), (0x06, 0, 0, 1), (0x06, 0, 0, 2)), CALL) == 2


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"1234567",
        program((0x20, 0, 0, 0)),
        program((0x15, 1, 0, 0), (0x06, 0, 0, 0)),
        program((0x15, 0, 1, 0), (0x06, 0, 0, 0)),
        program((0x05, 0, 0, 1), (0x06, 0, 0, 0)),
        program((0x20, 0, 0, 2), (0x06, 0, 0, 0)),
        program((0x20, 0, 0, 64), (0x06, 0, 0, 0)),
        program((0x99, 0, 0, 0), (0x06, 0, 0, 0)),
        program((0x06, 0, 0, 0)) * 4097,
    ],
    ids=["empty", "short", "no end", "true out", "false out", "jump out", "unaligned", "beyond", "unknown", "long"],
)
def test_refuses_what_the_kernel_refuses(malformed: bytes):
    with pytest.raises(bpf.MalformedProgram):
        bpf.decode(malformed)
