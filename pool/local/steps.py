"""Which steps of the lock-down every sandbox of this machine must report, and what is missing here."""

from __future__ import annotations

from collections.abc import Collection

from pool.backend import Isolation
from pool.local.cgroups import Groups
from sandbox_runtime import lockdown

OF_PROTECTION = {
    "UTS namespace": "uts_namespace",
    "cgroup namespace": "cgroup_namespace",
    "Landlock": "landlock",
}
"""The steps that a sandbox does without where the machine lacks the protection (`protections.WANTED`)."""


def isolation(found: Isolation, groups: Groups, left_out: Collection[str]) -> Isolation:
    """What was found when the machine was probed, and then when the cgroups were made; with the steps to expect."""
    refused = [name for name in groups.missing if name.endswith(" cgroup") and name not in found.missing]
    return Isolation(
        level="reduced" if refused and found.level == "full" else found.level,
        missing=(*found.missing, *refused),
        lockdown=expected(found.missing, left_out, has_groups=bool(groups.parents)),
    )


def expected(missing: Collection[str], left_out: Collection[str], *, has_groups: bool) -> tuple[str, ...]:
    """The names of all steps but those that this machine cannot do, and those that a test leaves out."""
    absent = {*left_out, *(OF_PROTECTION[name] for name in missing if name in OF_PROTECTION)}
    if not has_groups:
        absent.add("control_group")
    return tuple(name for name in lockdown.STEPS if name not in absent)
