"""The API server is away: what is warm goes on answering if it left in peace, and waits for it if it was killed."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest

from tests.cluster.harness import Cluster, eventually, succeeds
from tests.images.building import Images
from tests.kube.support.outages import start, stop, without
from tests.kube.support.pods import full, kube_pool, pods_are, ran

pytestmark = pytest.mark.slow

REUSED = {"max_runs_per_sandbox": 1000}
PEACE_SECONDS = 8.0
"""Its connections live for a minute."""
OUTAGE_SECONDS = 20.0
SERVED_SECONDS = 10.0


async def test_open_channels_go_on_answering_after_sigterm(cluster: Cluster, images: Images, restricted: str):
    cluster.require_ours("stopping the API server")
    async with kube_pool(cluster, images, restricted, settings=REUSED) as pool:
        await full(pool)
        await stop(cluster, "apiserver", "TERM")
        try:
            began, answers, slowest = anyio.current_time(), 0, 0.0
            while anyio.current_time() < began + PEACE_SECONDS:
                asked = anyio.current_time()
                _, sink = await ran(pool, f"print({answers})", queue_seconds=8)
                assert sink.streams["stdout"] == f"{answers}\n".encode()
                slowest = max(slowest, anyio.current_time() - asked)
                answers += 1
            print(
                f"{answers} answers in {PEACE_SECONDS:.0f} s without an API server, the slowest {slowest * 1000:.0f} ms"
            )
            assert slowest < 5.0
        finally:
            async with without(cluster, "apiserver"):  # it would take a minute to end
                pass
        await full(pool)


@pytest.mark.parametrize("settings", [REUSED, {}], ids=["reused", "used_once"])
async def test_requests_wait_and_are_served_when_it_is_back(
    cluster: Cluster, images: Images, restricted: str, settings: dict[str, int]
):
    cluster.require_ours("stopping the API server")
    async with kube_pool(cluster, images, restricted, settings=settings) as pool:
        await full(pool)
        served: list[float] = []

        async def ask(number: int) -> None:
            _, sink = await ran(pool, f"print({number})", queue_seconds=90)
            assert sink.streams["stdout"] == f"{number}\n".encode()
            served.append(anyio.current_time())

        async with anyio.create_task_group() as tasks, without(cluster, "apiserver"):
            await anyio.sleep(1.0)
            for number in range(pool.settings.size):
                tasks.start_soon(ask, number)
            await anyio.sleep(OUTAGE_SECONDS)
            assert served == []
            await start(cluster, "apiserver")
            await anyio.to_thread.run_sync(lambda: eventually(lambda: answers(cluster), 60.0))
            back_at = anyio.current_time()
        print(f"served {', '.join(f'{at - back_at:.2f}' for at in served)} s after it was back")
        assert max(served) - back_at < SERVED_SECONDS
        print(f"full again after {await full(pool):.2f} s")
        await pods_are(cluster, restricted, pool.settings.size)


def answers(cluster: Cluster) -> bool:
    return succeeds(cluster.kubectl, "get", "--raw", "/readyz", timeout=5)
