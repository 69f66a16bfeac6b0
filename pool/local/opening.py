"""From settings to a local backend, or to the sentence that says why there can be none."""

from __future__ import annotations

from collections.abc import Sequence

from pool.local import cgroups, probe
from pool.local.backend import LocalBackend, LocalPlan
from pool.local.environment import EnvironmentUnusable, ProgramEnvironment
from pool.local.protections import Protection, level
from pool.settings import RunLimits
from sandbox_runtime import places

DISPENSABLE = {
    "network namespace": "network_namespace",
    "IPC namespace": "ipc_namespace",
    "seccomp filter": "seccomp",
    "architecture": "seccomp",
}
"""What an operator may accept to be without, and the step of the lock-down that then cannot be done. Without the others
there is no place to run a program in (`docs/decisions/004-what-level-none-means.md`)."""


USUAL_PRELOAD = ("numpy", "pandas", "matplotlib")
"""Loaded as far as the programs' environment has them. Whatever an operator names instead must be there."""


class IsolationMissing(Exception):
    """This machine cannot hold a program. The message names what is missing, and how to get or accept that."""


def local_backend(
    *,
    environment: ProgramEnvironment,
    preload: tuple[str, ...],
    limits: RunLimits,
    reuses: bool = False,
    allow_no_isolation: bool = False,
) -> LocalBackend:
    """The backend for this machine; starts nothing yet. `reuses`: programs may follow each other in a sandbox.

    Raises `IsolationMissing`, `EnvironmentUnusable`.
    """
    if reuses:
        _refuse_what_cannot_be_wiped(environment)
    protections = probe.probe()
    if reason := refusal(protections, accepted=allow_no_isolation):
        raise IsolationMissing(reason)
    if reuses and "network_namespace" in impossible_steps(protections):
        raise IsolationMissing(
            "Without a network namespace nobody can tell which sockets a program has left: set"
            " BROKER_MAX_RUNS_PER_SANDBOX=1."
        )
    plan = LocalPlan(
        environment=environment,
        preload=preload if preload != USUAL_PRELOAD else (),
        preload_if_there=preload if preload == USUAL_PRELOAD else (),
        limits=limits,
        cleans=reuses,
        isolation=level(protections),
        left_out=impossible_steps(protections),
    )
    return LocalBackend(plan, cgroups.find())


def _refuse_what_cannot_be_wiped(environment: ProgramEnvironment) -> None:
    # A sandbox is clean when its writable places are empty, and there this environment would be mounted.
    for tree in environment.trees:
        if any(tree.startswith(f"{place}/") for place in places.WRITABLE):
            raise EnvironmentUnusable(
                f"the environment for programs is in {tree}, a place that each sandbox has of its own and that is wiped"
                " between two runs: put it elsewhere (BROKER_PROGRAMS), or set BROKER_MAX_RUNS_PER_SANDBOX=1"
            )


def refusal(protections: Sequence[Protection], *, accepted: bool) -> str | None:
    """Why nothing may be started here; None where it may."""
    lacking = [each for each in protections if each.needed and not each.present]
    if not lacking or (accepted and all(each.name in DISPENSABLE for each in lacking)):
        return None
    names = "; ".join(f"{each.name}: {each.remedy}" for each in lacking)
    return (
        f"Programs cannot be isolated here. Missing: {names}. `code-interpreter doctor` says more. {_way_out(lacking)}"
    )


def _way_out(lacking: Sequence[Protection]) -> str:
    fixed = ", ".join(each.name for each in lacking if each.name not in DISPENSABLE)
    if fixed:
        return f"No setting accepts to be without: {fixed}."
    return "BROKER_ALLOW_NO_ISOLATION=true serves without: for machines that run only your own programs."


def impossible_steps(protections: Sequence[Protection]) -> tuple[str, ...]:
    """Steps that this machine cannot do. SECURITY: reached only past `refusal`."""
    lacking = (each.name for each in protections if each.needed and not each.present)
    return tuple(sorted({DISPENSABLE[name] for name in lacking}))
