"""What the machine gives: judged from findings (pure), and tried for real, with controls in which a trial must fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pool.local import remedies
from pool.local.probe import libraries, look, try_out
from pool.local.protections import CGROUPS, NEEDED, WANTED, Findings, judge, level
from pool.local.remedies import Machine

RUNTIME = Path(__file__).resolve().parents[2] / "sandbox-runtime"
ORDINARY = Machine(is_root=False, in_container=False)
ROOT = Machine(is_root=True, in_container=False)


def findings(abi=7, missing=(), problem="Operation not permitted"):
    """As the trials say it."""
    assert {*missing} <= {*NEEDED, *WANTED}
    fine = dict.fromkeys((*NEEDED, *WANTED), "")
    return Findings(problems={**fine, **dict.fromkeys(missing, problem)}, landlock_abi=abi)


def judged(found=None, machine=ORDINARY, missing_cgroups=(), release="6.1.0-18-amd64", architecture="x86_64"):
    return judge(found or findings(), machine, missing_cgroups, release, architecture)


def named(protections, name):
    [one] = [each for each in protections if each.name == name]
    return one


# --- the level


def test_where_nothing_is_missing_the_level_is_full():
    assert (level(judged()).level, level(judged()).missing) == ("full", ())


@pytest.mark.parametrize("name", NEEDED)
def test_without_a_needed_one_the_level_is_none(name):
    found = level(judged(findings(missing=[name])))
    assert (found.level, found.missing) == ("none", (name,))


@pytest.mark.parametrize("name", WANTED)
def test_without_a_wanted_one_the_level_is_reduced(name):
    found = level(judged(findings(missing=[name])))
    assert (found.level, found.missing) == ("reduced", (name,))


@pytest.mark.parametrize("name", CGROUPS)
def test_without_a_cgroup_the_level_is_reduced(name):
    found = level(judged(missing_cgroups=(name,)))
    assert (found.level, found.missing) == ("reduced", (name,))


def test_the_issues_list_is_what_serve_cannot_do_without():
    wanted = {f"{kind} namespace" for kind in ("user", "mount", "PID", "network", "IPC")} | {"seccomp filter"}
    assert wanted <= {each.name for each in judged() if each.needed}
    assert not wanted & {*WANTED, *CGROUPS}


@pytest.mark.parametrize(
    ("release", "good"),
    [("5.8.0", True), ("6.18.44-fc-v669", True), ("5.7.19", False), ("4.19.0-27", False), ("?", False)],
)
def test_the_kernel_must_know_the_calls(release, good):
    assert named(judged(release=release), "kernel").present is good


@pytest.mark.parametrize(("name", "good"), [("x86_64", True), ("aarch64", True), ("i686", False), ("riscv64", False)])
def test_the_architecture_must_be_known_to_the_filter(name, good):
    assert named(judged(architecture=name), "architecture").present is good


def test_what_was_not_tried_counts_as_missing():
    assert level(judged(Findings(problems={}, landlock_abi=0))).level == "none"


def test_an_older_landlock_is_there_and_says_what_it_leaves_out():
    old, new = (named(judged(findings(abi=abi)), "Landlock") for abi in (4, 6))
    assert old.present
    assert "ABI 4" in old.meaning
    assert "ABI" not in new.meaning


# --- the advice


def test_what_is_there_needs_no_advice_and_what_is_missing_has_some():
    everything = dict.fromkeys((*NEEDED, *WANTED), "EPERM")
    missing = judged(Findings(problems=everything, landlock_abi=0), ROOT, tuple(CGROUPS), "4.4", "mips")
    assert [each.remedy for each in judged()] == [""] * len(missing)
    assert all(each.remedy and each.meaning and not each.present for each in missing)


def test_advice_carries_what_the_kernel_said():
    told = named(judged(findings(missing=["user namespace"])), "user namespace")
    assert told.remedy.endswith("(Operation not permitted)")


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"most_user_namespaces": 0}, "user.max_user_namespaces"),
        ({"clone_forbidden": True}, "kernel.unprivileged_userns_clone=1"),
        ({"apparmor_restricts": True}, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"in_container": True}, "seccomp=unconfined"),
        ({"in_container": True, "apparmor_restricts": True}, "systempaths=unconfined"),
        ({}, "CONFIG_USER_NS"),
    ],
)
def test_advice_for_user_namespaces_fits_the_machine(facts, word):
    machine = Machine(**{"is_root": False, "in_container": False, **facts})
    assert word in remedies.for_user_namespace(machine)


def test_no_advice_gives_up_the_container():
    machines = [
        Machine(is_root=root, in_container=True, apparmor_restricts=armor)
        for root in (False, True)
        for armor in (False, True)
    ]
    for machine in machines:
        texts = (
            remedies.for_user_namespace(machine),
            remedies.for_namespace(machine, "X"),
            remedies.for_mounts(machine),
        )
        assert all("--privileged" not in text and "cap-add" not in text for text in texts)


def test_delegation_is_asked_of_the_right_systemd():
    assert "systemd-run --user --scope" in remedies.for_cgroup(ORDINARY)
    assert "systemd-run --scope" in remedies.for_cgroup(ROOT)


# --- for real


def under(setup):
    """An interpreter that first does something to itself, then becomes the interpreter of the trials."""
    lines = (
        f"import os, sys; sys.path.insert(0, {str(RUNTIME)!r})\n"
        "from sandbox_runtime import kernel, namespaces, seccomp\n"
        f"{setup}\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    return (sys.executable, "-I", "-S", "-c", lines, sys.executable)


IN_OWN_USER_NAMESPACE = """
maps = (('setgroups', 'deny'), ('uid_map', f'1000 {os.getuid()} 1'), ('gid_map', f'1000 {os.getgid()} 1'))
namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
for file, text in maps:
    with open('/proc/self/' + file, 'w') as stream: stream.write(text)
"""


def problems_under(setup):
    return {name for name, problem in try_out(under(setup)).problems.items() if problem}


def test_this_machine_has_what_the_suite_needs():
    found = try_out()
    assert {name: problem for name, problem in found.problems.items() if problem and name in NEEDED} == {}
    assert set(found.problems) == {*NEEDED, *WANTED}


def test_a_trial_leaves_no_trace():
    def traces():
        mounts = Path("/proc/self/mountinfo").read_text()
        return (
            mounts,
            sorted(os.listdir("/proc/self/ns")),
            os.readlink("/proc/self/ns/net"),
            os.listdir("/proc/self/fd"),
        )

    def leaves_none():
        before = traces()
        try_out()
        return traces() == before

    # Others of this machine mount things too, now and then.
    assert any(leaves_none() for _ in range(5))


def test_under_a_filter_that_refuses_namespaces_all_of_them_are_missing():
    # What Docker's default filter does to a process without CAP_SYS_ADMIN.
    lock = "kernel.set_no_new_privs(); seccomp.install(seccomp.build(os.uname().machine, (2**22 - 1,)))"
    namespaces = {name for name in (*NEEDED, *WANTED) if name.endswith("namespace")}
    assert problems_under(lock) >= namespaces | {"mounts"}
    assert not problems_under(lock) & {"no_new_privs"}


def test_where_user_namespaces_are_used_up_an_ordinary_user_gets_no_other_either():
    limit = IN_OWN_USER_NAMESPACE + "with open('/proc/sys/user/max_user_namespaces', 'w') as most: most.write('0')"
    found = problems_under(limit)
    assert {"user namespace", "mount namespace", "PID namespace", "network namespace", "mounts"} <= found
    assert not found & {"seccomp filter", "no_new_privs"}


def test_where_parts_of_proc_are_read_only_no_other_proc_can_be_mounted():
    # As in a container without `--security-opt systempaths=unconfined`.
    cover = IN_OWN_USER_NAMESPACE + (
        "namespaces.mount('none', '/', None, namespaces.MS_REC | namespaces.MS_PRIVATE)\n"
        "namespaces.mount('/proc/sys', '/proc/sys', None, namespaces.MS_BIND)\n"
        "flags = namespaces.MS_BIND | namespaces.MS_REMOUNT | namespaces.MS_RDONLY\n"
        "namespaces.mount('none', '/proc/sys', None, flags | namespaces.locked_flags('/proc/sys'))\n"
    )
    assert problems_under(cover) == {"mounts"}


def test_trials_that_cannot_be_run_find_nothing_there():
    found = try_out(("/nonexistent/python",))
    assert set(found.problems) == {*NEEDED, *WANTED}
    assert all("/nonexistent/python" in problem for problem in found.problems.values())
    assert try_out(("/bin/echo",)).problems.keys() == found.problems.keys()


def test_the_machine_describes_itself():
    machine = look()
    assert machine.is_root == (os.geteuid() == 0)
    assert machine.most_user_namespaces > 0


def test_missing_libraries_are_named(tmp_path):
    without = tmp_path / "python"
    without.write_text("#!/bin/sh\necho pandas\n")
    without.chmod(0o755)
    found = libraries(str(without))
    assert (found.present, found.needed) == (False, False)
    assert "absent: pandas" in found.remedy
    assert not libraries("/nonexistent/python").present
