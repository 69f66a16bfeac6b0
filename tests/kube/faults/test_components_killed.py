"""API server, containerd or kubelet is killed under a run: its outcome comes all the same, through another channel.

Nothing on either side says that the channel is lost (a killed kubelet says `Success`), and the program knows nothing of
it. What it prints while nobody hears it, and the files that it leaves, come with the outcome.
"""

from __future__ import annotations

import anyio
import pytest

from pool import Reason
from tests.cluster.harness import Cluster
from tests.fakes.pools import CountingObserver
from tests.images.building import Images
from tests.kube.support.outages import without
from tests.kube.support.pods import full, kube_pool, pods, pods_are
from tests.kube.support.runs import Background, running

pytestmark = pytest.mark.slow

COMPONENTS = ("apiserver", "containerd", "kubelet")
SHORT_SECONDS, LONG_SECONDS, AWAY_SECONDS = 1.5, 10.0, 3.0
"""A program that ends while the component is away, and one that ends after it is back."""
REATTACH_SECONDS = 5.0
"""From the component's return, or the program's end if that is later, to its outcome."""

PROGRAM = """
import time
with open("begun.txt", "a") as file:
    file.write("once")
until = time.monotonic() + {seconds}
number = 0
while time.monotonic() < until:
    print(number, flush=True)
    number += 1
    time.sleep(0.05)
with open("result.bin", "wb") as file:
    file.write(bytes(range(256)) * 1000)
print("that were", number)
"""


@pytest.mark.parametrize("seconds", [SHORT_SECONDS, LONG_SECONDS], ids=["ends_meanwhile", "ends_after_the_restart"])
@pytest.mark.parametrize("component", COMPONENTS)
async def test_outcome_comes_through_another_channel(
    cluster: Cluster, images: Images, restricted: str, component: str, seconds: float
):
    cluster.require_ours("stopping a component")
    observer = CountingObserver()
    async with kube_pool(cluster, images, restricted, observer=observer) as pool:
        await full(pool)
        async with running(pool, PROGRAM.format(seconds=seconds)) as run:
            async with without(cluster, component):
                await anyio.sleep(AWAY_SECONDS)
            back_at = anyio.current_time()
        assert_whole(run)
        late_seconds = run.ended_at - max(back_at, run.program_ended_at)
        print(f"{component}: the outcome came {late_seconds:.2f} s after the return or the end")
        assert late_seconds < REATTACH_SECONDS
        assert observer.words("ran") == ["exited"]
        print(f"full again after {await full(pool):.2f} s")
        await pods_are(cluster, restricted, pool.settings.size)
        assert run.sandbox not in {pod["metadata"]["name"] for pod in await pods(cluster, restricted)}


def assert_whole(run: Background) -> None:
    """Nothing of what the program made is missing, and nothing came twice."""
    assert run.error is None
    assert run.outcome is not None
    assert (run.outcome.exit_code, run.outcome.reason) == (0, Reason.EXITED)
    *numbers, last = run.stdout.splitlines()
    assert numbers == [str(number) for number in range(len(numbers))]
    assert last == f"that were {len(numbers)}"
    assert run.sink.files == {"begun.txt": b"once", "result.bin": bytes(range(256)) * 1000}
    assert run.sink.finished == ["begun.txt", "result.bin"]
