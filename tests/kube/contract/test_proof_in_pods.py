"""The proof between two programs of a pod: each of these is out of the wiping's reach, and the proof alone finds it.

No program gets so far. So each is planted from outside, by a process that somebody execs in the pod as the same user:
nothing locks it down.
"""

from __future__ import annotations

import textwrap

import pytest

from pool import SandboxPool
from tests.cluster.harness import Cluster
from tests.fakes.pools import CountingObserver
from tests.images.building import Images
from tests.kube.support.pods import full, kube_pool, kubectl, pods, ran

pytestmark = pytest.mark.slow

REUSED = {"size": 1, "max_runs_per_sandbox": 100}
LEAKS = {
    "a System V segment": """
        import ctypes
        assert ctypes.CDLL(None).shmget(7, 4096, 0o1600) >= 0
    """,
    "the container's last words": """
        with open("/dev/termination-log", "w") as file:
            file.write("for you")
    """,
    "a limit of the zygote": """
        import resource
        resource.prlimit(1, resource.RLIMIT_MSGQUEUE, (99, 99))
    """,
}
NOTHING = "print('looked around')"


async def plant(cluster: Cluster, namespace: str, pod: str, code: str) -> None:
    await kubectl(cluster, "exec", pod, "-n", namespace, "--", "python3", "-c", textwrap.dedent(code))


async def the_pod(cluster: Cluster, namespace: str) -> str:
    (found,) = await pods(cluster, namespace)
    return str(found["metadata"]["name"])


async def is_followed(pool: SandboxPool) -> None:
    """A program runs well, and what comes after it is ready."""
    outcome, sink = await ran(pool, "print(1)")
    assert (outcome.exit_code, sink.streams["stdout"]) == (0, b"1\n")
    await full(pool)


@pytest.mark.parametrize("leak", LEAKS)
async def test_what_only_the_proof_can_find_costs_the_pod(cluster: Cluster, images: Images, restricted: str, leak: str):
    observer = CountingObserver()
    async with kube_pool(cluster, images, restricted, settings=REUSED, observer=observer) as pool:
        await full(pool)
        tainted = await the_pod(cluster, restricted)
        await plant(cluster, restricted, tainted, LEAKS[leak])
        await is_followed(pool)
        assert (observer.words("cleaned"), observer.words("retired")) == ([1], ["not_clean"])
        assert await the_pod(cluster, restricted) != tainted
        await is_followed(pool)
        assert observer.words("cleaned") == [1, 0]


async def test_a_visit_that_leaves_nothing_costs_nothing(cluster: Cluster, images: Images, restricted: str):
    """So it is the leaks that cost the pod, and not the exec."""
    observer = CountingObserver()
    async with kube_pool(cluster, images, restricted, settings=REUSED, observer=observer) as pool:
        await full(pool)
        visited = await the_pod(cluster, restricted)
        await plant(cluster, restricted, visited, NOTHING)
        await is_followed(pool)
        assert (observer.words("cleaned"), observer.words("retired")) == ([0], [])
        assert await the_pod(cluster, restricted) == visited
