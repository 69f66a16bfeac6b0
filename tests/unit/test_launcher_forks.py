"""The launcher forks into other PID namespaces than its own; a fork that fails must not be the last one."""

from __future__ import annotations

from pathlib import Path

from tests.unit import confined

LAUNCHER = str(Path(__file__).resolve().parents[2] / "pool" / "local")

SETUP = """
    sys.path.insert(0, arguments[0])
    from launcher import birth, nursery
    if os.geteuid() == 0:  # for root no limit of processes holds
        os.setgroups([])
        os.setresgid(arguments[1], arguments[1], arguments[1])
        os.setresuid(arguments[1], arguments[1], arguments[1])
    birth.enter_user_namespace(os.getuid(), os.getgid())
    namespaces.unshare(namespaces.CLONE_NEWPID)  # one that is ours to come back to, as the launcher's is
    first = os.fork()
    if first:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
    own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY)
    def child_namespace():
        return os.readlink("/proc/self/ns/pid_for_children")
    def pid_in_a_new_namespace():
        namespaces.unshare(namespaces.CLONE_NEWPID)
        reading, writing = os.pipe()
        if nursery.forked_elsewhere(own_pids) == 0:
            os.write(writing, b"%d" % os.getpid())
            os._exit(0)
        os.close(writing)
        os.wait()
        return int(os.read(reading, 10))
    before = child_namespace()
"""


def test_a_fork_into_another_namespace_is_its_first_process_and_the_next_ones_are_ours_again():
    source = """
        answer([pid_in_a_new_namespace(), pid_in_a_new_namespace(), child_namespace() == before])
    """
    assert confined.answer_of(source, LAUNCHER, confined.ORDINARY_UID, setup=SETUP) == [1, 1, True]


def test_after_a_fork_that_failed_the_next_one_works():
    # With a namespace set that has no first process, unshare and setns fail with EINVAL from then on.
    source = """
        soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
        failures = [attempt(pid_in_a_new_namespace) for _ in range(2)]
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
        answer([failures, pid_in_a_new_namespace(), child_namespace() == before])
    """
    answer = confined.answer_of(source, LAUNCHER, confined.ORDINARY_UID, setup=SETUP)
    assert answer == [["EAGAIN", "EAGAIN"], 1, True]
