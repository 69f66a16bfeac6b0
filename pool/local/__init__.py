"""Sandboxes on one machine, without a cluster: the embedded default."""

from pool.local.backend import LocalBackend, LocalPlan
from pool.local.cgroups import Groups
from pool.local.environment import EnvironmentUnusable, ProgramEnvironment
from pool.local.environment import find as find_environment
from pool.local.opening import USUAL_PRELOAD, IsolationMissing, local_backend, refusal
from pool.local.probe import Protection, level, libraries, probe

__all__ = [
    "USUAL_PRELOAD",
    "EnvironmentUnusable",
    "Groups",
    "IsolationMissing",
    "LocalBackend",
    "LocalPlan",
    "ProgramEnvironment",
    "Protection",
    "find_environment",
    "level",
    "libraries",
    "local_backend",
    "probe",
    "refusal",
]
