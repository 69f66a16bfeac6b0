"""A small classic-BPF machine over struct seccomp_data, so that a filter can be held without the kernel it is for."""

from __future__ import annotations

import struct
from typing import NamedTuple

INSTRUCTION_BYTES = 8
LONGEST_PROGRAM = 4096

LOAD_WORD, JUMP, RETURN = 0x20, 0x05, 0x06
COMPARES = {
    0x15: lambda accumulator, operand: accumulator == operand,
    0x25: lambda accumulator, operand: accumulator > operand,
    0x35: lambda accumulator, operand: accumulator >= operand,
    0x45: lambda accumulator, operand: bool(accumulator & operand),
}


class MalformedProgram(Exception):
    """The kernel would refuse this program when it is installed."""


class Call(NamedTuple):
    """A system call as the filter sees it."""

    number: int
    architecture: int
    arguments: tuple[int, ...] = ()

    def packed(self) -> bytes:
        arguments = [*self.arguments, *(0 for _ in range(6 - len(self.arguments)))]
        words = (argument & 0xFFFF_FFFF_FFFF_FFFF for argument in arguments)
        return struct.pack("<IIQ6Q", self.number & 0xFFFF_FFFF, self.architecture, 0, *words)


class Instruction(NamedTuple):
    code: int
    if_true: int
    if_false: int
    operand: int


def decode(program: bytes) -> list[Instruction]:
    """Split and check a program as the kernel does: known codes, aligned loads, jumps that land, a return."""
    if not program or len(program) % INSTRUCTION_BYTES or len(program) > LONGEST_PROGRAM * INSTRUCTION_BYTES:
        raise MalformedProgram(f"{len(program)} bytes")
    instructions = [Instruction(*fields) for fields in struct.iter_unpack("<HBBI", program)]
    for place, instruction in enumerate(instructions):
        _check(instruction, len(instructions) - place - 1)
    if instructions[-1].code != RETURN:
        raise MalformedProgram("does not end with a return")
    return instructions


def _check(instruction: Instruction, instructions_left: int) -> None:
    code, if_true, if_false, operand = instruction
    if code in COMPARES:
        fits = max(if_true, if_false) < instructions_left
    elif code == JUMP:
        fits = operand < instructions_left
    elif code == LOAD_WORD:
        fits = operand % 4 == 0 and operand < 64
    else:
        fits = code == RETURN
    if not fits:
        raise MalformedProgram(f"{instruction} with {instructions_left} instructions left")


def verdict(program: bytes, call: Call) -> int:
    """What the filter answers; jumps only go forward, so it always ends."""
    instructions, data = decode(program), call.packed()
    place = accumulator = 0
    while instructions[place].code != RETURN:
        code, if_true, if_false, operand = instructions[place]
        if code == LOAD_WORD:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == JUMP:
            place += operand
        else:
            place += if_true if COMPARES[code](accumulator, operand) else if_false
        place += 1
    return instructions[place].operand
