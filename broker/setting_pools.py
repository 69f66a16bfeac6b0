"""The pools that the settings ask for: of runs, and of sessions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pool import PoolSettings, RunLimits

if TYPE_CHECKING:
    from broker.settings import Settings

MIB = 2**20
KUBE_STARTS = 4
ANSWER_FIRST_SECONDS = 0.005
"""Ending a sandbox and starting the next take 25 ms of CPU, an answer 1 ms: without a pause a caller on the same
machine, with two cores, waited 3 ms more. Twice as long gains nothing."""
KUBE_ANSWER_FIRST_SECONDS = 0.15
"""Ending a pod and starting one take half a second of a node's CPU. On one node with two cores, without a pause the
last answer of a burst of 16 came after 550 ms, with it after 100; where pods start elsewhere it is nothing beside
their start."""
KUBE_START_SECONDS = 120.0
"""From the POST of a pod until its canary has passed: its image may have to be pulled. The backend gives up sooner on
what it knows to be in vain."""
SESSION_FILES = 100_000
"""Files and folders of a session's workspace: a repository with its packages. Each is a KiB of the kernel's memory."""


def of_runs(settings: Settings) -> PoolSettings:
    shared = PoolSettings(
        size=settings.size,
        max_in_flight=settings.in_flight,
        queue=settings.queue,
        startup_concurrency=settings.startup_concurrency or (KUBE_STARTS if settings.in_cluster else 2),
        max_runs_per_sandbox=settings.max_runs_per_sandbox,
        reuse_within_caller=settings.reuse_scope == "tenant",
        drain_seconds=settings.grace_seconds or 0.1,
    )
    if settings.in_cluster:
        # A pod takes some seconds to go, and shows by itself that it works: its image may be anybody's.
        return msgspec.structs.replace(
            shared,
            surge=16,
            canary_each=True,
            start_seconds=KUBE_START_SECONDS,
            answer_first_seconds=KUBE_ANSWER_FIRST_SECONDS,
        )
    # Sandboxes start and end on the cores that programs and answers need.
    return msgspec.structs.replace(shared, refill_eagerly=False, answer_first_seconds=ANSWER_FIRST_SECONDS)


def of_sessions(settings: Settings) -> PoolSettings:
    """Of sessions: one is started when it is asked for, and none takes a place of a run's."""
    return msgspec.structs.replace(
        settings.pool,
        size=0,
        max_in_flight=max(1, settings.max_sessions),
        queue=max(1, settings.max_sessions),
        max_runs_per_sandbox=1,
        reuse_within_caller=False,
        refill_eagerly=True,
        answer_first_seconds=0.0,
        proved_elsewhere=True,
    )


def limits_of_sessions(settings: Settings) -> RunLimits:
    return msgspec.structs.replace(
        settings.limits, workspace_bytes=settings.session_workspace_mb * MIB, inodes=SESSION_FILES, loopback=1
    )
