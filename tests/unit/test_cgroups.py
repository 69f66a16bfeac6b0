"""Making, limiting, reusing and removing cgroups, against recorded v1, hybrid and v2 trees (`cgroup_kernel.py`)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from pool import RunLimits
from pool.errors import SandboxStartFailed
from pool.local.cgroups import IDLE_SECONDS, Groups, files, limits, names
from pool.local.cgroups.limits import STARTING
from pool.local.cgroups.tree import usable
from tests.fakes.clock import in_virtual_time
from tests.unit import cgroup_kernel
from tests.unit.cgroup_kernel import ANOTHER, OURSELVES, Kernel

MIB = 2**20
RUN_LIMITS = RunLimits()
SERVICE = "system.slice/code-interpreter.service"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    kernel = Kernel(tmp_path)
    kernel.install(monkeypatch)
    return kernel


@pytest.fixture
def opened():
    """Opens groups, and closes them after the test."""
    made = []

    def open_groups(texts):
        groups = Groups(usable(*texts))
        made.append(groups)
        groups.open()
        return groups

    yield open_groups
    for groups in made:
        groups.close()


def read(folder, *names_of_files):
    return [Path(folder, name).read_text() for name in names_of_files]


def only_group(groups, place):
    [folder] = [each for each in Path(groups.parents[place]).iterdir() if each.is_dir() and each.name != STARTING]
    return folder


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- the limits


def test_the_wall_is_what_a_run_may_use_in_all():
    small = RunLimits(memory_bytes=100, workspace_bytes=200, tmp_bytes=300, shm_bytes=400, inodes=5)
    assert limits.wall_bytes(small) == 1000 + 3 * 5 * 1024 + limits.OWN_BYTES
    assert limits.wall_bytes(RunLimits()) > RunLimits().memory_bytes + 100 * MIB


@pytest.mark.parametrize(("millicores", "quota"), [(1000, 100_000), (2500, 250_000), (5, 1000), (1, 1000)])
def test_the_quota_follows_the_millicores(millicores, quota):
    assert limits.quota_us(RunLimits(cpu_millicores=millicores)) == quota


def test_v1_gets_its_limits(kernel, opened):
    groups = opened(cgroup_kernel.hybrid(kernel))
    group = groups.make("s1", RUN_LIMITS)
    assert groups.missing == ()
    memory, pids, cpu = (only_group(groups, place) for place in range(3))
    assert read(memory, "memory.limit_in_bytes") == [str(limits.wall_bytes(RUN_LIMITS))]
    assert read(pids, "pids.max") == ["256"]
    assert read(cpu, "cpu.cfs_quota_us", "cpu.cfs_period_us") == ["100000", "100000"]
    assert read(memory.parent, "memory.swappiness") + read(cpu.parent, "cpu.shares") == ["0", "64"]
    assert groups.starting_doors == [f"{cpu.parent}/starting/tasks"]
    assert read(cpu.parent / "starting", "cpu.shares") == ["512"]
    group.remove()


def test_v2_gets_its_limits(kernel, opened):
    groups = opened(cgroup_kernel.unified(kernel))
    group = groups.make("s1", RUN_LIMITS)
    assert groups.missing == ()
    folder = only_group(groups, 0)
    assert folder.parent.parent == kernel.root / SERVICE
    assert read(folder, "memory.max", "memory.oom.group") == [str(limits.wall_bytes(RUN_LIMITS)), "1"]
    assert read(folder, "pids.max", "cpu.max") == ["256", "100000 100000"]
    assert read(folder.parent, "memory.swap.max", "cpu.weight") == ["0", "6"]
    assert groups.starting_doors == [f"{folder.parent}/starting/cgroup.procs"]
    assert read(folder.parent / "starting", "cpu.weight") == ["50"]
    assert os.readlink(f"/proc/self/fd/{group.enter[0]}") == f"{folder}/cgroup.procs"
    group.remove()


def test_a_group_hands_out_doors_and_gauges(kernel, opened):
    groups = opened(cgroup_kernel.hybrid(kernel))
    group = groups.make("s1", RUN_LIMITS)
    assert [os.readlink(f"/proc/self/fd/{each}") for each in group.enter] == [
        f"{parent}/s1/tasks" for parent in groups.parents
    ]
    named = {"memory_stat", "memory_events", "pids_current", "pids_events", "cpu_shares", "memory_threshold"}
    assert set(group.gauges) == named
    assert os.pread(group.gauges["memory_events"], 100, 0).endswith(b"oom_kill 0")
    handed_out = [*group.enter, *group.gauges.values()]
    group.close_descriptors()
    assert not any(os.path.exists(f"/proc/self/fd/{each}") for each in handed_out)
    group.close_descriptors()
    group.remove()


def test_v2_has_no_threshold(kernel, opened):
    group = opened(cgroup_kernel.unified(kernel)).make("s1", RUN_LIMITS)
    assert set(group.gauges) == {"memory_stat", "memory_events", "pids_current", "pids_events", "cpu_weight"}
    group.remove()


def test_an_old_kernel_without_a_gauge_does_without_it(kernel, opened):
    kernel.lacks = {"pids.events"}
    group = opened(cgroup_kernel.hybrid(kernel)).make("s1", RUN_LIMITS)
    assert "pids_events" not in group.gauges
    assert "pids_current" in group.gauges
    group.remove()


# --- what cannot be had


def test_nothing_to_be_had_is_named_and_does_no_harm(opened):
    groups = opened(("", ""))
    assert groups.missing == ("memory cgroup", "pids cgroup", "cpu cgroup")
    group = groups.make("s1", RUN_LIMITS)
    assert (group.enter, group.gauges, groups.parents) == ([], {}, [])
    assert group.remove()


def test_v2_without_a_memory_controller(kernel, opened):
    groups = opened(cgroup_kernel.unified(kernel, controllers="cpuset cpu io pids"))
    assert groups.missing == ("memory cgroup",)
    group = groups.make("s1", RUN_LIMITS)
    assert set(group.gauges) == {"pids_current", "pids_events", "cpu_weight"}
    assert len(group.enter) == 1
    group.remove()


def test_a_kernel_without_bandwidth_control_still_has_shares(kernel, opened):
    kernel.lacks = {"cpu.cfs_quota_us", "cpu.cfs_period_us"}
    groups = opened(cgroup_kernel.hybrid(kernel))
    assert groups.missing == ("cpu quota",)
    groups.make("s1", RUN_LIMITS).remove()
    assert read(groups.parents[2], "cpu.shares") == ["64"]


def test_a_quota_above_that_of_our_own_cgroup_is_left_out(kernel, opened):
    # v1 answers EINVAL; the smaller quota above holds anyway.
    groups = opened(cgroup_kernel.hybrid(kernel))
    kernel.refuses = {"cpu.cfs_quota_us": errno.EINVAL}
    groups.make("s1", RUN_LIMITS).remove()


def test_a_hierarchy_that_refuses_folders_is_missing(kernel, opened, monkeypatch):
    texts = cgroup_kernel.hybrid(kernel)
    make = kernel.make

    def refuse(folder):
        if "/pids/" in folder:
            raise PermissionError(errno.EACCES, folder)
        make(folder)

    monkeypatch.setattr(files, "make", refuse)
    groups = opened(texts)
    assert groups.missing == ("pids cgroup",)
    assert len(groups.parents) == 2


def test_a_sandbox_that_gets_no_cgroup_leaves_nothing(kernel, opened):
    groups = opened(cgroup_kernel.hybrid(kernel))
    before, descriptors = kernel.snapshot(), os.listdir("/proc/self/fd")
    kernel.refuses = {"pids.max": errno.ENOMEM}
    with pytest.raises(SandboxStartFailed, match=r"no cgroup for sandbox s1: .*pids\.max") as failed:
        groups.make("s1", RUN_LIMITS)
    assert failed.value.reason == "cgroup"
    assert kernel.snapshot() == before
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


# --- v2: this process moves into a leaf


def test_in_v2_we_move_into_a_leaf_and_back(kernel):
    texts = cgroup_kernel.unified(kernel)
    before = kernel.snapshot()
    groups = Groups(usable(*texts))
    assert kernel.snapshot() == before  # finding changes nothing
    groups.open()
    own = kernel.root / SERVICE
    assert read(own, "cgroup.procs", "cgroup.subtree_control") == ["", "memory pids cpu"]
    assert read(own / "service", "cgroup.procs") == [OURSELVES]
    groups.make("s1", RUN_LIMITS).remove()
    groups.close()
    assert kernel.snapshot() == before


def test_a_leaf_left_by_a_killed_service_is_used_again(kernel, opened):
    texts = cgroup_kernel.unified(kernel)
    kernel.make(str(kernel.root / SERVICE / "service"))
    assert opened(texts).missing == ()


@pytest.mark.parametrize("file", ["cgroup.subtree_control", "cgroup.procs"])
def test_a_refusal_in_v2_leaves_nothing_half_done(kernel, opened, file):
    texts = cgroup_kernel.unified(kernel)
    before = kernel.snapshot()
    kernel.refuses = {file: errno.EBUSY}
    assert opened(texts).missing == ("memory cgroup", "pids cgroup", "cpu cgroup")
    assert kernel.snapshot() == before


def test_others_that_came_into_the_cgroup_meanwhile_stop_us(kernel, opened):
    texts = cgroup_kernel.unified(kernel)
    groups = Groups(usable(*texts))
    (kernel.root / SERVICE / "cgroup.procs").write_text(f"{OURSELVES} {ANOTHER}")
    groups.open()
    assert groups.missing == ("memory cgroup", "pids cgroup", "cpu cgroup")
    assert not (kernel.root / SERVICE / "service").exists()
    assert set(read(kernel.root / SERVICE, "cgroup.procs")[0].split()) == {OURSELVES, ANOTHER}


def test_at_the_root_of_v2_nobody_moves(kernel, opened):
    kernel.unified("cpu memory pids", procs=f"{OURSELVES} {ANOTHER}")
    groups = opened((cgroup_kernel.UNIFIED_MOUNTINFO.format(root=kernel.root), "0::/\n"))
    assert groups.missing == ()
    assert read(kernel.root, "cgroup.procs") == [f"{OURSELVES} {ANOTHER}"]


# --- one sandbox after the other


@pytest.fixture
def groups(kernel, opened):
    return opened(cgroup_kernel.hybrid(kernel))


def test_an_empty_folder_is_used_again(groups):
    groups.make("s1", RUN_LIMITS).remove()
    groups.make("s2", RUN_LIMITS)
    assert only_group(groups, 0).name == "s1"


def test_a_lowered_weight_is_raised_for_the_next(groups):
    first = groups.make("s1", RUN_LIMITS)
    (weight,) = [file for parent in groups.parents for file in Path(parent).glob("s1/cpu.shares")]
    os.pwrite(first.gauges["cpu_shares"], b"0102", 0)
    first.remove()
    assert weight.read_text() == "0102"
    groups.make("s2", RUN_LIMITS)
    assert weight.read_text() == "1024"


def folders(groups) -> list[Path]:
    return list(Path(groups.parents[0]).glob("s?"))


@in_virtual_time
async def test_folders_that_nobody_needs_for_a_while_are_removed(groups):
    for group in [groups.make(name, RUN_LIMITS) for name in ("s1", "s2", "s3")]:
        group.remove()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(groups.shrink)
        await anyio.sleep(IDLE_SECONDS * 1.5)
        groups.make("s4", RUN_LIMITS).remove()
        await anyio.sleep(IDLE_SECONDS)
        assert len(folders(groups)) == 1
        await anyio.sleep(IDLE_SECONDS)
        assert folders(groups) == []
        tasks.cancel_scope.cancel()


def test_a_folder_in_use_is_not(groups):
    groups.make("s1", RUN_LIMITS)
    groups.make("s2", RUN_LIMITS)
    assert len(list(Path(groups.parents[1]).glob("s?"))) == 2


def test_folders_with_other_limits_are_not(groups):
    groups.make("s1", RUN_LIMITS).remove()
    groups.make("s2", RunLimits(processes=7))
    assert read(Path(groups.parents[1], "s2"), "pids.max") == ["7"]


@pytest.mark.parametrize(("place", "file", "left"), [(0, "memory.usage_in_bytes", 17 * MIB), (1, "pids.current", 1)])
def test_folders_with_something_left_in_them_are_not(groups, place, file, left):
    group = groups.make("s1", RUN_LIMITS)
    Path(groups.parents[place], "s1", file).write_text(f"{left}\n")
    groups._threads.shutdown()
    assert group.remove()
    assert not Path(groups.parents[place], "s1").exists()


def test_giving_up_twice_gives_up_once(groups):
    first = groups.make("s1", RUN_LIMITS)
    assert first.remove()
    groups.make("s2", RUN_LIMITS)
    assert first.remove()
    groups.make("s3", RUN_LIMITS)
    assert len(list(Path(groups.parents[1]).glob("s?"))) == 2


def test_a_group_with_processes_in_it_stays_until_they_are_gone(groups):
    group = groups.make("s1", RUN_LIMITS)
    folders = [Path(parent, "s1") for parent in groups.parents]
    for folder in folders:
        (folder / "cgroup.procs").write_text(ANOTHER)
    assert not group.remove()
    for folder in folders:
        (folder / "cgroup.procs").write_text("")
    assert group.remove()


def test_close_leaves_nothing(kernel, groups):
    for number in range(3):
        groups.make(f"s{number}", RUN_LIMITS).remove()
    groups.make("s9", RUN_LIMITS)
    groups.close()
    assert not [path for path in kernel.snapshot() if "code-interpreter" in path]


# --- the names, and whose service is dead


def test_a_name_says_whose_it_is():
    assert names.new_name().startswith(f"code-interpreter-{os.getpid()}-{names.start_ticks(os.getpid())}-")
    assert names.new_name() != names.new_name()


def test_a_program_may_have_any_name():
    fields = " ".join(["S", *map(str, range(4, 53))])  # named by their number in proc(5): the 22nd is the start time
    assert names.ticks_in(f"4242 (sh) {fields}") == 22
    assert names.ticks_in(f"4242 (a) 9 (b) {fields}") == 22


def test_a_process_that_is_not_there_began_at_no_time():
    assert names.start_ticks(dead_pid()) is None


def test_a_dead_service_is_swept_and_a_live_one_is_not(kernel, opened):
    texts = cgroup_kernel.hybrid(kernel)
    dead = [
        f"code-interpreter-{dead_pid()}-5-1",
        f"code-interpreter-{os.getpid()}-5-1",
        f"code-interpreter-{dead_pid()}-7",
    ]
    alive = [f"code-interpreter-{os.getppid()}-{names.start_ticks(os.getppid())}-1", "code-interpreter-x", "docker"]
    for name in (*dead, *alive):
        kernel.make(str(kernel.root / "pids" / name))
        kernel.make(str(kernel.root / "pids" / name / "s1"))
    opened(texts)
    left = {each.name for each in (kernel.root / "pids").iterdir() if each.is_dir()}
    assert left.isdisjoint(dead)
    assert left.issuperset(alive)


def test_a_dead_services_folder_with_processes_stays(kernel, opened):
    texts = cgroup_kernel.hybrid(kernel)
    folder = kernel.root / "pids" / f"code-interpreter-{dead_pid()}-5-1"
    kernel.make(str(folder))
    (folder / "cgroup.procs").write_text(ANOTHER)
    assert opened(texts).missing == ()
    assert folder.exists()
