"""What a run has come to, as its caller is told."""

from __future__ import annotations

from broker.admission import Admitted
from broker.returned_files import ReturnedFiles
from broker.run_places import RunPlace
from broker.schemas import Result, SkippedPath, Termination, Truncated, timings
from broker.service import Service
from pool import Outcome

SKIPPED_SHOWN = 20


def result(service: Service, admitted: Admitted, place: RunPlace, outcome: Outcome, files: ReturnedFiles) -> Result:
    skipped = [*(SkippedPath(each.path, each.reason) for each in outcome.files_skipped), *files.skipped]
    return Result(
        exit_code=outcome.exit_code,
        timed_out=outcome.timed_out,
        duration_ms=outcome.duration_ms,
        files=files.kept,
        execution_id=admitted.execution_id,
        termination=Termination(outcome.reason, outcome.signal),
        limits_hit=outcome.limits_hit,
        files_skipped=skipped[:SKIPPED_SHOWN],
        files_skipped_count=outcome.files_skipped_count + len(files.skipped),
        truncated=Truncated(outcome.stdout_truncated, outcome.stderr_truncated),
        isolation=service.pool.backend.isolation().without(place.missing).level,
        timings_ms=timings(outcome, queue_ms=place.queue_ms, lease_ms=place.lease_ms),
    )
