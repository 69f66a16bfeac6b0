"""Turns the deny-list into a classic BPF program for the kernel's seccomp, and installs it.

The program is one straight list. On Linux >= 5.11 the kernel works out once which calls pass whatever their arguments
and no longer runs the filter for those; before that the whole list costs about 10 ns a call.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from sandbox_runtime import kernel, syscall_numbers
from sandbox_runtime.seccomp_rules import LOOPBACK, NO_NETWORK, RULES, Rule, protecting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand

# 32-bit ones end in another value, and so does big-endian aarch64: all of them are refused.
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

LOAD_WORD, JUMP, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000

# Offsets in struct seccomp_data; both machines are little-endian, so an argument's low word comes first.
NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16

LONGEST_JUMP = 255  # a conditional jump has 8 bits: longer lists are cut into several blocks
WORD = 0xFFFFFFFF

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1

_INSTRUCTION = struct.Struct("=HBBI")

_unchanging: dict[tuple[str, bool], bytes] = {}  # the end of the program, which is the same for all children

_LOAD_NUMBER = (LOAD_WORD, 0, 0, NUMBER_OFFSET)


class Filters:
    """Of one supervisor's children. The one for sessions is built when a session first asks for it."""

    __slots__ = ("_machine", "_plain", "_protected_pids")

    def __init__(self, machine: str, protected_pids: Sequence[int]) -> None:
        self._machine, self._protected_pids = machine, protected_pids
        self._plain = build(machine, protected_pids)

    def of(self, loopback: bool) -> bytes:
        return build(self._machine, self._protected_pids, loopback=True) if loopback else self._plain


def build(machine: str, protected_pids: Sequence[int], *, loopback: bool = False) -> bytes:
    """The filter as the kernel takes it. `protected_pids`: every thread of zygote and supervisor, by its id.

    Whoever forks children builds one first: what does not depend on the ids is then there for all of them.
    """
    numbers, kind = syscall_numbers.table(machine), (machine, loopback)
    if kind not in _unchanging:
        rules = (*(LOOPBACK if loopback else NO_NETWORK), *RULES)
        _unchanging[kind] = _packed([*_blocks(rules, numbers), _return(ALLOW)])
    varying = [*_prologue(AUDIT_ARCHITECTURES[machine]), *_blocks(protecting(_valid(protected_pids)), numbers)]
    return _packed(varying) + _unchanging[kind]


def install(program: bytes) -> None:
    """Put the filter on all threads of this process and all its descendants, for good.

    Fails with EACCES unless no_new_privs is set or CAP_SYS_ADMIN is there.
    """
    count = len(program) // _INSTRUCTION.size
    instructions = ctypes.create_string_buffer(program)
    sock_fprog = struct.pack("HP", count, ctypes.addressof(instructions))
    what = f"install a seccomp filter of {count} instructions (needs no_new_privs or CAP_SYS_ADMIN)"
    # SECURITY: TSYNC, for a thread left outside the filter would be a way around it.
    flags = SECCOMP_FILTER_FLAG_TSYNC
    unfiltered = kernel.system_call("seccomp", what, SECCOMP_SET_MODE_FILTER, flags, sock_fprog)
    if unfiltered:
        raise OSError(errno.EBUSY, f"{what}: thread {unfiltered} has a filter of its own")


def _valid(process_ids: Sequence[int]) -> tuple[int, ...]:
    if any(process_id < 1 for process_id in process_ids):
        raise ValueError(f"protected process ids must be positive, got {list(process_ids)}")
    return tuple(dict.fromkeys(process_ids))


def _prologue(architecture: int) -> list[Instruction]:
    return [
        (LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        # SECURITY: int 0x80 and 32-bit programs number the calls differently: every rule would compare the wrong ones.
        # Refused and not killed, because each kill is a record in the node's audit log, and a guest can fork in a loop.
        _return(FAIL_WITH | errno.ENOSYS),
        _LOAD_NUMBER,
        # SECURITY: x32 (bit 30), the x32-only numbers 512-547 that kernels before 5.4 also took without that bit, and
        # calls newer than this list. ENOSYS as on an older kernel: libc and the rest then do without.
        (JUMP_IF_AT_LEAST, 0, 1, syscall_numbers.NEWEST_WEIGHED + 1),
        _return(FAIL_WITH | errno.ENOSYS),
    ]


def _packed(instructions: Iterable[Instruction]) -> bytes:
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def _blocks(rules: Iterable[Rule], numbers: dict[str, int]) -> Iterator[Instruction]:
    for rule in rules:
        present = [numbers[call] for call in rule.calls if call in numbers]
        yield from _rule_blocks(rule, present) if present else ()


def _rule_blocks(rule: Rule, numbers: Sequence[int]) -> list[Instruction]:
    fail = _return(FAIL_WITH | rule.error)
    bodies = [[fail]] if rule.argument is None else _argument_bodies(rule, rule.argument, fail)
    return [instruction for body in bodies for instruction in _for_calls(numbers, body)]


def _for_calls(numbers: Sequence[int], body: Sequence[Instruction]) -> list[Instruction]:
    """Run `body` for these calls and jump over it for all others."""
    distances = range(len(numbers), 0, -1)
    head = [(JUMP_IF_EQUAL, distance, 0, number) for distance, number in zip(distances, numbers)]
    return [*head, (JUMP, 0, 0, len(body)), *body]


def _argument_bodies(rule: Rule, argument: int, fail: Instruction) -> list[list[Instruction]]:
    load = (LOAD_WORD, 0, 0, ARGUMENTS_OFFSET + 8 * argument)
    if rule.any_of_bits:
        return [_fail_if_any(load, [(JUMP_IF_ANY_BIT, 0, 0, rule.any_of_bits)], fail)]
    if rule.unless:
        return [_fail_if_none(load, _compares(rule.unless), fail)]
    pieces = (rule.equals[i : i + LONGEST_JUMP] for i in range(0, len(rule.equals), LONGEST_JUMP))
    return [_fail_if_any(load, _compares(piece), fail) for piece in pieces]


def _compares(values: Iterable[int]) -> list[Instruction]:
    return [(JUMP_IF_EQUAL, 0, 0, value & WORD) for value in values]


def _fail_if_any(load: Instruction, compares: list[Instruction], fail: Instruction) -> list[Instruction]:
    return [load, *_hold_past_next(compares), (JUMP, 0, 0, 1), fail, _LOAD_NUMBER]


def _fail_if_none(load: Instruction, compares: list[Instruction], fail: Instruction) -> list[Instruction]:
    return [load, *_hold_past_next(compares), fail, _LOAD_NUMBER]


def _hold_past_next(compares: list[Instruction]) -> list[Instruction]:
    """Make each compare that holds jump over the rest of them and the one instruction that follows.

    All bodies end by loading the number again: the next block may be another rule for the same call.
    """
    return [(code, len(compares) - place, 0, operand) for place, (code, _, _, operand) in enumerate(compares)]


def _return(value: int) -> Instruction:
    return (RETURN, 0, 0, value)
