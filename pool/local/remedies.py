"""What to do about a protection that is missing: sentences, chosen by what is known of the machine. Pure."""

from __future__ import annotations

import msgspec

IN_CONTAINER = (
    "start the container with `--user 1000:1000 --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    " --security-opt systempaths=unconfined` and without added capabilities"
)
"""Each for a reason: Docker's own filter refuses to make namespaces and mounts to whoever lacks CAP_SYS_ADMIN; its
AppArmor profile refuses every mount; with parts of /proc masked or read-only the kernel refuses a new /proc to a
user namespace. As an ordinary user, because root without CAP_SYS_ADMIN makes no namespaces, and with it could leave
the container. Programs still have our own filter, which is stricter than Docker's; the service itself has none."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What decides which advice is right."""

    is_root: bool
    in_container: bool
    apparmor_restricts: bool = False
    """Ubuntu since 23.10: kernel.apparmor_restrict_unprivileged_userns."""
    clone_forbidden: bool = False
    """Debian and Ubuntu: kernel.unprivileged_userns_clone is there and 0."""
    most_user_namespaces: int = 1
    """user.max_user_namespaces."""


def for_user_namespace(machine: Machine) -> str:
    if machine.most_user_namespaces == 0:
        return "`sysctl -w user.max_user_namespaces=10000` on the host (and a file in /etc/sysctl.d to keep it)"
    if machine.clone_forbidden:
        return "`sysctl -w kernel.unprivileged_userns_clone=1` on the host (and a file in /etc/sysctl.d to keep it)"
    if machine.apparmor_restricts and not machine.is_root:
        return (
            "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` on the host, or an AppArmor profile for this"
            f" Python with `userns,`{_and_then(machine)}"
        )
    if machine.in_container:
        return IN_CONTAINER
    return "a kernel built with CONFIG_USER_NS=y, and no seccomp filter or SELinux rule that refuses it to this process"


def _and_then(machine: Machine) -> str:
    return f"; then {IN_CONTAINER}" if machine.in_container else ", or run as root"


def for_namespace(machine: Machine, option: str) -> str:
    """For the others: they can be had by whoever has a user namespace, or CAP_SYS_ADMIN."""
    if machine.in_container:
        return IN_CONTAINER
    if machine.is_root:
        return f"CAP_SYS_ADMIN for this process, and a kernel built with {option}=y"
    return f"a user namespace (see there), and a kernel built with {option}=y"


def for_mounts(machine: Machine) -> str:
    if machine.in_container:
        return IN_CONTAINER
    if machine.apparmor_restricts and not machine.is_root:
        return for_user_namespace(machine)
    return "a /proc with nothing mounted over its parts (the kernel shows no second one that would show more), and /mnt"


def for_seccomp(architecture_known: bool) -> str:
    return "a kernel built with CONFIG_SECCOMP_FILTER=y" if architecture_known else ARCHITECTURE


def for_landlock(abi: int) -> str:
    return (
        f"Linux 5.19 or later (6.12 for all of it) with landlock in CONFIG_LSM or in the boot option `lsm=`; in a"
        f" container a seccomp profile that knows its three calls. Found ABI {abi}, used from 2 on"
    )


def for_cgroup(machine: Machine) -> str:
    if machine.in_container:
        return "a writable /sys/fs/cgroup with this process alone in its cgroup; `docker run` gives a read-only one"
    scope = "systemd-run --scope" if machine.is_root else "systemd-run --user --scope"
    return (
        f"`{scope} -p Delegate=yes .venv/bin/code-interpreter serve` (not through make, which stays in the cgroup), or"
        " Delegate=yes in a unit; cgroup v1 needs folders that this user may write to"
    )


KERNEL = "Linux 5.8 or later"
ARCHITECTURE = "an x86_64 or aarch64 machine"
