"""From settings to a local backend, or to the sentence that says why there can be none."""

from __future__ import annotations

from pathlib import Path

from pool.backend import Isolation
from pool.local import cgroups, probe
from pool.local.backend import LocalBackend, LocalPlan
from pool.local.environment import find
from pool.settings import RunLimits


def local_backend(
    *, programs: Path, preload: tuple[str, ...], limits: RunLimits, allow_no_isolation: bool = False
) -> LocalBackend:
    """The backend for this machine. Raises `EnvironmentUnusable`."""
    plan = LocalPlan(environment=find(str(programs)), preload=preload, limits=limits, isolation=isolation_here())
    return LocalBackend(plan, cgroups.find())


def isolation_here() -> Isolation:
    """The level that this machine gives, as found by trying."""
    return probe.level(probe.probe())
