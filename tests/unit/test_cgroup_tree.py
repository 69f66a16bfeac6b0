"""Where our cgroups are, by recorded texts of the kernel."""

from __future__ import annotations

import os

import pytest

from pool.local.cgroups.tree import Hierarchy, usable
from tests.unit import cgroup_kernel
from tests.unit.cgroup_kernel import ANOTHER, OURSELVES, Kernel


@pytest.fixture
def kernel(tmp_path):
    return Kernel(tmp_path)


def found(texts):
    return {name: each.folder for each in usable(*texts) for name in each.controllers}


def test_a_hybrid_machine_is_used_through_v1(kernel):
    root = kernel.root
    assert usable(*cgroup_kernel.hybrid(kernel)) == (
        Hierarchy(version=1, folder=f"{root}/memory/process_api/4ddd92aa", controllers=("memory",)),
        Hierarchy(version=1, folder=f"{root}/pids", controllers=("pids",)),
        Hierarchy(version=1, folder=f"{root}/cpu,cpuacct", controllers=("cpu",)),
    )


def test_a_delegated_v2_cgroup_has_all_three(kernel):
    folder = f"{kernel.root}/system.slice/code-interpreter.service"
    assert usable(*cgroup_kernel.unified(kernel)) == (
        Hierarchy(version=2, folder=folder, controllers=("memory", "pids", "cpu")),
    )


def test_a_v2_mount_counts_only_for_the_controllers_that_it_lists(kernel):
    assert set(found(cgroup_kernel.unified(kernel, controllers="cpuset cpu pids"))) == {"pids", "cpu"}
    assert found(cgroup_kernel.unified(kernel, controllers="hugetlb")) == {}


@pytest.mark.parametrize("procs", [f"{OURSELVES} {ANOTHER}", f"{ANOTHER}\n{OURSELVES}", "0"])
def test_a_v2_cgroup_with_others_in_it_is_not_ours_to_change(kernel, procs):
    assert found(cgroup_kernel.unified(kernel, procs=procs)) == {}


def test_the_root_of_the_v2_tree_may_hold_others(kernel):
    kernel.unified("cpu memory pids", procs=f"{OURSELVES} {ANOTHER}")
    assert set(found((cgroup_kernel.UNIFIED_MOUNTINFO.format(root=kernel.root), "0::/\n"))) == {"memory", "pids", "cpu"}


@pytest.mark.parametrize("file", ["cgroup.subtree_control", "cgroup.procs"])
def test_a_v2_cgroup_that_was_not_delegated_is_left_alone(kernel, file):
    texts = cgroup_kernel.unified(kernel)
    (kernel.root / "system.slice/code-interpreter.service" / file).unlink()  # root may write to any file that is there
    assert found(texts) == {}


def test_what_v1_has_is_not_looked_for_in_v2(kernel):
    kernel.hierarchy("memory", "memory")
    kernel.unified("cpu memory pids", "unified", OURSELVES)
    mountinfo = (
        f"35 31 0:32 / {kernel.root}/memory rw - cgroup cgroup rw,memory\n"
        f"41 31 0:38 / {kernel.root}/unified rw - cgroup2 cgroup2 rw\n"
    )
    assert found((mountinfo, "4:memory:/\n0::/\n")) == {
        "memory": f"{kernel.root}/memory",
        "pids": f"{kernel.root}/unified",
        "cpu": f"{kernel.root}/unified",
    }


@pytest.mark.parametrize(
    ("mount_root", "path"),
    [
        ("/docker/8ae9", "/docker/8ae9"),  # Docker on v1: the mount shows the container's own cgroup
        ("/", "/"),  # with a cgroup namespace
        ("/docker/8ae9/", "/docker/8ae9"),
    ],
)
def test_a_container_sees_its_own_cgroup_at_the_mount(kernel, mount_root, path):
    kernel.hierarchy("memory", "memory")
    mountinfo = f"35 31 0:32 {mount_root} {kernel.root}/memory rw - cgroup cgroup rw,memory\n"
    assert found((mountinfo, f"4:memory:{path}\n")) == {"memory": f"{kernel.root}/memory"}


@pytest.mark.parametrize("path", ["/docker/8ae90", "/", "/../elsewhere", "/docker"])
def test_a_mount_that_does_not_show_our_cgroup_is_no_use(kernel, path):
    kernel.hierarchy("memory", "memory")
    mountinfo = f"35 31 0:32 /docker/8ae9 {kernel.root}/memory rw - cgroup cgroup rw,memory\n"
    assert found((mountinfo, f"4:memory:{path}\n")) == {}


def test_a_cgroup_above_our_namespace_is_no_use(kernel):
    kernel.hierarchy("memory", "memory")
    mountinfo = f"35 31 0:32 / {kernel.root}/memory/below rw - cgroup cgroup rw,memory\n"
    assert found((mountinfo, "4:memory:/..\n")) == {}


def test_a_space_in_a_path_is_read_back(kernel):
    kernel.hierarchy("a b/memory", "memory")
    mountinfo = f"35 31 0:32 / {kernel.root}/a\\040b/memory rw - cgroup cgroup rw,memory\n"
    assert found((mountinfo, "4:memory:/\n")) == {"memory": f"{kernel.root}/a b/memory"}


def test_a_cgroup_that_was_deleted_is_no_use(kernel):
    mountinfo = f"35 31 0:32 / {kernel.root}/memory rw - cgroup cgroup rw,memory\n"
    assert found((mountinfo, "4:memory:/gone (deleted)\n")) == {}


def test_a_machine_without_cgroups():
    assert usable("24 1 0:20 / /proc rw - proc proc rw\n", "") == ()
    assert usable("", "0::/\n") == ()


def test_the_real_texts_are_understood():
    with open("/proc/self/mountinfo") as mountinfo, open("/proc/self/cgroup") as own:
        hierarchies = usable(mountinfo.read(), own.read())
    assert all(os.path.isdir(each.folder) for each in hierarchies)
