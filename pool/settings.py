"""The pool's settings: data, with units in the names. Read from the environment by the broker only."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Mib = Annotated[int, Meta(ge=1)]


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many sandboxes, and how callers wait for one."""

    size: Annotated[int, Meta(ge=0)]
    """READY + STARTING wanted. Larger absorbs larger bursts; smaller holds less memory (6 MiB each). 0 starts one for
    whoever waits."""
    max_in_flight: Count
    """Leased at once."""
    surge: Count = 8
    """Slots that may be on their way out besides: size + max_in_flight + surge is the only hard cap."""
    queue: Annotated[int, Meta(ge=0)] = 256
    """Requests that may wait; but the first of a caller is not turned away because others fill the queue."""
    startup_concurrency: Count = 2
    """Sandboxes being started at once. More fills a drained pool faster; fewer leaves CPU to programs."""
    refill_eagerly: bool = True
    """False: a sandbox is started while short programs run only if fewer than half of `size` are ready. For backends
    whose sandboxes start on the CPUs that the programs need."""
    short_run_seconds: Seconds = 0.25
    """So long such a start waits for a program. Longer leaves the pool half empty beside programs that compute for
    minutes; shorter takes CPU from programs that are nearly done."""
    answer_first_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """After a run, so long before its sandbox is ended and the next is started, unless somebody waits for one: where
    both take the CPUs that the answer needs on its way. Longer leaves the pool a little emptier."""
    max_unavailable: Count = 1
    """Idle sandboxes of an old generation that may be retired before their replacements are ready."""
    max_runs_per_sandbox: Count = 1
    """A sandbox is retired after so many runs; between two it is wiped and proved as it was. More spares starts; fewer
    let fewer programs share a hash seed and a layout of memory."""
    reuse_within_caller: bool = False
    """A sandbox that a caller has held is never another's. Else all callers trust each other."""
    reuse_seconds: Seconds = 1800.0
    """A sandbox that has had a run is retired when it is older than this."""
    canary_each: bool = False
    """Each sandbox runs a program of ours before it is warm, and is cleaned. Else one does, for all of a generation:
    where all are forked from the same template."""
    proved_elsewhere: bool = False
    """Another pool over the same backend has a canary for each generation: this one needs none."""
    egress_seconds: Seconds = 600.0
    """An idle sandbox proves this often that it still reaches nothing, where its backend names targets."""
    start_seconds: Seconds = 30.0
    """A sandbox that is not warm by then counts as failed."""
    probe_seconds: Seconds = 30.0
    """An idle sandbox is asked for a sign of life this often."""
    idle_seconds: Seconds = 3600.0
    """An idle sandbox older than this is replaced at its next probe."""
    drain_seconds: Seconds = 70.0
    """On close, running programs may go on for so long."""

    @property
    def reuses(self) -> bool:
        return self.max_runs_per_sandbox > 1

    @property
    def limit(self) -> int:
        return self.size + self.max_in_flight + self.surge


class RunLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may use. The sandbox is started with these; a change makes a new generation."""

    memory_bytes: Count = 256 * 2**20
    output_bytes: Count = 1_000_000
    """Kept of each stream; what comes after is read and dropped."""
    output_kill_bytes: Count = 64 * 2**20
    """A program that writes this much to one stream is ended."""
    processes: Count = 256
    """Processes and threads."""
    open_files: Count = 1024
    file_bytes: Count = 100 * 2**20
    """The largest file a program may write, and the largest that is returned."""
    workspace_bytes: Count = 100 * 2**20
    tmp_bytes: Count = 64 * 2**20
    shm_bytes: Count = 64 * 2**20
    inodes: Count = 20_000
    """Files and folders in the workspace; as many again in /tmp."""
    returned_files: Count = 1000
    returned_bytes: Count = 200 * 2**20
    cpu_millicores: Count = 1000
    loopback: Annotated[int, Meta(ge=0, le=1)] = 0
    """Network interfaces, of the kind that leads to the sandbox itself. For sessions: other programs may use none."""
