"""The filter in the interpreter: every rule, on both machines, whichever of them this is. The kernel's word on it is in
`test_seccomp_installed.py`."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime import seccomp, seccomp_rules, syscall_numbers
from sandbox_runtime.seccomp_rules import Rule
from tests.unit import bpf
from tests.unit.everyday_calls import EVERYDAY

MACHINES = syscall_numbers.MACHINES
ZYGOTE, SUPERVISOR, SUPERVISOR_THREAD, OWN = 1, 7, 9, 4242
PROTECTED = (ZYGOTE, SUPERVISOR, SUPERVISOR_THREAD)
FILTERS = {machine: seccomp.build(machine, PROTECTED) for machine in MACHINES}
ALLOWED = "allowed"
NAMES = {0: "done", **errno.errorcode}

# Values that the call's argument has in honest programs, next to those that are denied.
HONEST_FCNTL = {"F_DUPFD": 0, "F_SETFL": 4, "F_GETLK": 5, "F_SETLK": 6, "F_SETLKW": 7, "F_GETOWN": 9, "F_GETSIG": 11}
HONEST_FCNTL |= {"F_OFD_SETLK": 37, "F_GETLEASE": 1025, "F_DUPFD_CLOEXEC": 1030, "F_SETPIPE_SZ": 1031}
HONEST_FCNTL |= {"F_ADD_SEALS": 1033, "F_GETDELEG": 1039}
HONEST_IOCTL = {"TCGETS": 0x5401, "TIOCGWINSZ": 0x5413, "FIONREAD": 0x541B, "FIONBIO": 0x5421, "FIOCLEX": 0x5451}
THREAD_FLAGS = 0x003D0F00  # what glibc's pthread_create passes
FORK_FLAGS = 0x01200011
VFORK_FLAGS = 0x00004111


def outcome(machine: str, number: int, *arguments: int, architecture: int | None = None) -> str:
    architecture = architecture or seccomp.AUDIT_ARCHITECTURES[machine]
    answer = bpf.verdict(FILTERS[machine], bpf.Call(number, architecture, arguments))
    if answer == seccomp.ALLOW:
        return ALLOWED
    assert answer & 0xFFFF0000 == seccomp.FAIL_WITH
    return NAMES[answer & 0xFFFF]


def named(machine: str, call: str, *arguments: int) -> str:
    return outcome(machine, syscall_numbers.table(machine)[call], *arguments)


def rows() -> Iterator[tuple[str, Rule, str]]:
    for machine in MACHINES:
        for rule in (*seccomp_rules.protecting(PROTECTED), *seccomp_rules.NO_NETWORK, *seccomp_rules.RULES):
            yield from ((machine, rule, call) for call in rule.calls if call in syscall_numbers.table(machine))


def parametrized(found: Iterable[tuple[str, Rule, str]]) -> pytest.MarkDecorator:
    parameters = [pytest.param(*row, id=f"{row[0]}-{row[2]}") for row in found]
    return pytest.mark.parametrize(("machine", "rule", "call"), parameters)


by_row = parametrized(rows())
by_row_with_argument = parametrized(row for row in rows() if row[1].argument is not None)
by_machine = pytest.mark.parametrize("machine", MACHINES)


def denied_values(rule: Rule) -> set[int]:
    bits = {1 << bit for bit in range(32) if rule.any_of_bits & 1 << bit}
    others = {(value + 1) & 0xFFFFFFFF for value in rule.unless} - set(rule.unless)
    return set(rule.equals) | bits | others


def honest_values(rule: Rule) -> set[int]:
    if rule.any_of_bits:
        return {0, ~rule.any_of_bits & 0xFFFFFFFF}
    neighbours = {value + step for value in rule.equals for step in (-1, 1)}
    return set(rule.unless) or neighbours - set(rule.equals)


def arguments_with(rule: Rule, value: int) -> list[int]:
    """All other arguments are a number that no rule denies anywhere."""
    arguments = [OWN] * 6
    if rule.argument is not None:
        arguments[rule.argument] = value
    return arguments


@by_row
def test_each_row_denies_what_it_says(machine: str, rule: Rule, call: str):
    expected = NAMES[rule.error]
    for value in denied_values(rule) or {0, 1, -1}:
        assert named(machine, call, *arguments_with(rule, value)) == expected, value


@by_row_with_argument
def test_each_row_leaves_its_neighbours_alone(machine: str, rule: Rule, call: str):
    for value in honest_values(rule):
        assert named(machine, call, *arguments_with(rule, value)) == ALLOWED, value


@by_row
def test_the_upper_half_of_an_argument_dodges_nothing(machine: str, rule: Rule, call: str):
    for value in denied_values(rule) or {0}:
        arguments = arguments_with(rule, value & 0xFFFFFFFF | 0xDEAD << 32)
        assert named(machine, call, *arguments) == NAMES[rule.error], value


@by_machine
@pytest.mark.parametrize("call", EVERYDAY)
def test_everyday_calls_pass(machine: str, call: str):
    number = EVERYDAY[call][MACHINES.index(machine)]
    assert number is None or outcome(machine, number, OWN, 0, OWN) == ALLOWED


@by_machine
@pytest.mark.parametrize("flags", [THREAD_FLAGS, FORK_FLAGS, VFORK_FLAGS])
def test_threads_and_forks_pass(machine: str, flags: int):
    assert named(machine, "clone", flags) == ALLOWED


@by_machine
@pytest.mark.parametrize("call", ["socket", "socketpair"])
def test_only_unix_sockets_can_be_made(machine: str, call: str):
    families = {family: named(machine, call, family, 1) for family in range(64)}
    assert families.pop(seccomp_rules.AF_UNIX) == ALLOWED
    assert set(families.values()) == {"EACCES"}


@by_machine
def test_randomised_addresses_stay(machine: str):
    no_randomize, read_implies_exec = 0x0040000, 0x0400000
    assert {named(machine, "personality", persona) for persona in (no_randomize, read_implies_exec)} == {"EPERM"}


@by_machine
def test_file_locks_and_everyday_controls_pass(machine: str):
    fcntl = {name: named(machine, "fcntl", 3, command) for name, command in HONEST_FCNTL.items()}
    ioctl = {name: named(machine, "ioctl", 3, command) for name, command in HONEST_IOCTL.items()}
    assert set({**fcntl, **ioctl}.values()) == {ALLOWED}


@by_machine
@pytest.mark.parametrize("process_id", PROTECTED)
def test_kill_reaches_no_protected_process_thread_or_group(machine: str, process_id: int):
    assert {named(machine, "kill", target, 9) for target in (process_id, -process_id, -1)} == {"EPERM"}


@by_machine
def test_kill_reaches_the_programs_own_processes(machine: str):
    assert {named(machine, "kill", target, 9) for target in (OWN, -OWN, 0)} == {ALLOWED}


@by_machine
@pytest.mark.parametrize(("call", "by_user"), [("setpriority", 2), ("ioprio_set", 3)])
def test_priorities_by_user_are_denied_whoever_it_is(machine: str, call: str, by_user: int):
    assert {named(machine, call, by_user, who, 19) for who in (0, OWN, 65532)} == {"EPERM"}
    assert {named(machine, call, which, OWN, 19) for which in range(by_user)} == {ALLOWED}


@by_machine
def test_another_architecture_is_refused(machine: str):
    others = {0x40000003, 0x40000028, 0xC0000015, 0, *seccomp.AUDIT_ARCHITECTURES.values()}
    others -= {seccomp.AUDIT_ARCHITECTURES[machine]}
    assert {outcome(machine, 39, architecture=other or 1) for other in others} == {"ENOSYS"}


def test_x32_is_refused():
    x32 = [0x40000000 | number for number in (0, 39, 62, 512, 520)]
    without_the_bit = range(512, 548)  # taken by kernels before 5.4
    assert {outcome("x86_64", number) for number in (*x32, *without_the_bit)} == {"ENOSYS"}


@by_machine
def test_calls_nobody_weighed_are_not_there(machine: str):
    newest = syscall_numbers.NEWEST_WEIGHED
    assert {outcome(machine, number) for number in (newest + 1, newest + 100, 0xFFFFFFFF)} == {"ENOSYS"}
    assert outcome(machine, newest) == ALLOWED


@by_machine
@given(data=st.data())
def test_any_call_gets_a_known_verdict(machine: str, data: st.DataObject):
    number = data.draw(st.one_of(st.integers(0, 600), st.integers(0, 0xFFFFFFFF)))
    arguments = data.draw(st.lists(st.integers(-(1 << 63), (1 << 64) - 1), max_size=6))
    architecture = data.draw(st.sampled_from([*seccomp.AUDIT_ARCHITECTURES.values(), 0x40000003]))
    known = {ALLOWED, "EPERM", "EACCES", "ENOSYS", "done"}
    assert outcome(machine, number, *arguments, architecture=architecture) in known


@by_machine
@given(protected=st.lists(st.integers(1, 1 << 22), max_size=600), target=st.integers(-(1 << 22), 1 << 22))
def test_any_number_of_processes_can_be_protected(machine: str, protected: list[int], target: int):
    program = seccomp.build(machine, protected)
    call = bpf.Call(syscall_numbers.table(machine)["kill"], seccomp.AUDIT_ARCHITECTURES[machine], (target, 9))
    is_denied = target == -1 or abs(target) in protected
    assert (bpf.verdict(program, call) != seccomp.ALLOW) == is_denied


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_protected_id_that_means_something_else_is_refused(wrong: int):
    with pytest.raises(ValueError, match="must be positive"):
        seccomp.build("x86_64", [1, wrong])


def test_every_call_in_the_rules_has_a_number():
    rules = (*seccomp_rules.protecting(PROTECTED), *seccomp_rules.NO_NETWORK, *seccomp_rules.RULES)
    known = {**syscall_numbers.SEPARATE, **syscall_numbers.SHARED}
    assert {call for rule in rules for call in rule.calls} - set(known) == set()


def test_the_filter_stays_moderate():
    assert {machine: len(program) // 8 < 320 for machine, program in FILTERS.items()} == dict.fromkeys(MACHINES, True)
