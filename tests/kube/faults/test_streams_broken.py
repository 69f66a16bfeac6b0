"""What networks do to connections without telling anybody: each run ends in its outcome, or as lost, in its time."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from pool import SandboxLost
from tests.cluster.harness import Cluster
from tests.images.building import Images
from tests.kube.support.pods import full, kube_pool, pods_are, ran
from tests.kube.support.relay import relay_to
from tests.kube.support.runs import Background, running

pytestmark = pytest.mark.slow

REUSED = {"max_runs_per_sandbox": 1000}
RECOVERY_SECONDS = 12.0
"""From the fault to the outcome: twice the silence that is waited for, a new exec, and what the program takes."""
COUNTING = """
import time
for number in range(60):
    print(number, flush=True)
    time.sleep(0.1)
_ = open("done.txt", "w").write("done")
"""
STALLED_RUNS = 100


@pytest.mark.parametrize("fault", ["frozen", "half_open"])
async def test_run_is_heard_out_when_its_stream_falls_silent(
    cluster: Cluster, images: Images, restricted: str, tmp_path: Path, fault: str
):
    async with (
        relay_to(cluster, tmp_path) as relay,
        kube_pool(cluster, images, restricted, kubeconfig=relay.kubeconfig) as pool,
    ):
        await full(pool)
        async with running(pool, COUNTING, timeout_seconds=20) as run:
            silent_at = anyio.current_time()
            if fault == "frozen":
                relay.freeze("exec")
            else:
                await relay.half_open("exec")
        assert_whole(run)
        print(f"{fault}: outcome {run.ended_at - silent_at:.2f} s after the fault")
        assert run.ended_at - silent_at < RECOVERY_SECONDS
        relay.thaw()
        await full(pool)
        await pods_are(cluster, restricted, pool.settings.size)


async def test_run_that_nobody_can_hear_is_lost_at_its_deadline(
    cluster: Cluster, images: Images, restricted: str, tmp_path: Path
):
    async with (
        relay_to(cluster, tmp_path) as relay,
        kube_pool(cluster, images, restricted, kubeconfig=relay.kubeconfig) as pool,
    ):
        await full(pool)
        async with running(pool, COUNTING, timeout_seconds=7) as run:
            relay.freeze("exec", "watch", "call", new=True)
            with anyio.fail_after(run.deadline_seconds + 1):
                await run.over.wait()
            relay.thaw()
        assert isinstance(run.error, SandboxLost)
        print(f"{run.error!r} after {run.ended_at - run.began_at:.2f} s of {run.deadline_seconds:.0f}")
        print(f"full again after {await full(pool):.2f} s")
        await pods_are(cluster, restricted, pool.settings.size)


async def test_leases_answer_while_every_new_request_stalls(
    cluster: Cluster, images: Images, restricted: str, tmp_path: Path
):
    async with (
        relay_to(cluster, tmp_path) as relay,
        kube_pool(cluster, images, restricted, settings=REUSED, kubeconfig=relay.kubeconfig) as pool,
    ):
        await full(pool)
        relay.freeze("call", new=True)
        relay.freeze_new("exec", "watch")
        began = anyio.current_time()
        for number in range(STALLED_RUNS):
            _, sink = await ran(pool, f"print({number})", queue_seconds=1)
            assert sink.streams["stdout"] == f"{number}\n".encode()
        print(f"{STALLED_RUNS} runs in {anyio.current_time() - began:.2f} s")
        relay.thaw()


def assert_whole(run: Background) -> None:
    assert run.error is None
    assert run.outcome is not None
    assert run.outcome.exit_code == 0
    assert run.stdout.split() == [str(number) for number in range(60)]
    assert run.sink.files == {"done.txt": b"done"}
