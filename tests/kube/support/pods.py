"""Pools over pods of the cluster, and what can be seen of their pods from outside.

async with kube_pool(cluster, images, restricted, settings={"size": 1}) as pool:
    outcome, sink = await ran(pool, "print(1)")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from pool import Observer, Outcome, PoolSettings, Program, RunLimits, SandboxPool, StagedFile, Target
from pool.kube import ExecutorConfig, KubeBackend, KubePlan
from pool.kube.config import EgressCheck
from pool.kube.manifest import Plan
from tests.cluster.harness import Cluster
from tests.fakes.sinks import KeepingSink
from tests.images.building import Images

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ANCHOR = "anchor"
POOL = "under-test"
SETTINGS = PoolSettings(size=2, max_in_flight=8, surge=8, startup_concurrency=4, canary_each=True, start_seconds=60)
LONGEST_RUN_SECONDS = 60
QUEUE_SECONDS = 60.0
BESIDE_RUN_SECONDS = 20.0
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.05


@contextmanager
def restricted_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that takes only pods of Pod Security `restricted`, with an anchor for them; gone in the end."""
    with cluster.namespace(RESTRICTED) as name:
        cluster.kubectl("create", "configmap", ANCHOR, "-n", name)
        yield name


def plan(
    cluster: Cluster,
    images: Images,
    namespace: str,
    *,
    limits: RunLimits | None = None,
    egress: Sequence[Target] = (),
    preload_if_there: Sequence[str] = (),
    left_out: Sequence[str] = (),
    replica: str = "replica",
    kubeconfig: Path | None = None,
    config: Mapping[str, Any] | None = None,
) -> KubePlan:
    """`egress` are the targets to prove unreachable; none: nothing is proved. `config` are fields of ExecutorConfig."""
    wishes: dict[str, Any] = {
        "namespace": namespace,
        "image": images.executor,
        "pool": POOL,
        "anchor": ANCHOR,
        "egress_check": EgressCheck(mode="on" if egress else "off"),
        **(config or {}),
    }
    pods = Plan(
        config=ExecutorConfig(**wishes),
        limits=limits or RunLimits(),
        preload_if_there=tuple(preload_if_there),
        longest_run_seconds=LONGEST_RUN_SECONDS,
        left_out=tuple(left_out),
    )
    return KubePlan(pods=pods, replica=replica, kubeconfig=str(kubeconfig or cluster.kubeconfig), targets=tuple(egress))


@asynccontextmanager
async def kube_pool(
    cluster: Cluster,
    images: Images,
    namespace: str,
    *,
    settings: Mapping[str, Any] | None = None,
    limits: RunLimits | None = None,
    egress: Sequence[Target] = (),
    observer: Observer | None = None,
    **planned: Any,
) -> AsyncIterator[SandboxPool]:
    """An open pool in a namespace of `restricted_namespace`. What is `planned` goes to `plan`."""
    made = plan(cluster, images, namespace, limits=limits, egress=egress, **planned)
    wanted = msgspec.structs.replace(SETTINGS, **(settings or {}))
    async with SandboxPool(wanted, made.pods.limits, KubeBackend(made), observer) as pool:
        yield pool


async def ran(
    pool: SandboxPool,
    code: str | Program,
    files: Sequence[StagedFile] = (),
    *,
    timeout_seconds: float = 10.0,
    queue_seconds: float = QUEUE_SECONDS,
) -> tuple[Outcome, KeepingSink]:
    """Run one program in whichever sandbox comes first."""
    program = code if isinstance(code, Program) else Program(code=code, timeout_ms=int(timeout_seconds * 1000))
    sink = KeepingSink()
    async with pool.lease(deadline=anyio.current_time() + queue_seconds) as lease:
        deadline = anyio.current_time() + program.timeout_ms / 1000 + BESIDE_RUN_SECONDS
        return await lease.run(program, files, sink, deadline), sink


# --- waiting ---


async def until(holds: Callable[[], object], within_seconds: float = PATIENCE_SECONDS) -> float:
    """Let everybody go on until it holds; returns after how many seconds that was."""
    began = anyio.current_time()
    with anyio.fail_after(within_seconds):
        while not holds():  # noqa: ASYNC110  # for what nobody is told of
            await anyio.sleep(LOOK_SECONDS)
    return anyio.current_time() - began


async def full(pool: SandboxPool, within_seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until as many are ready as there should be, and nothing else is there."""

    def is_full() -> bool:
        slots = pool.snapshot().slots
        return slots == {**dict.fromkeys(slots, 0), "ready": pool.settings.size}

    try:
        return await until(is_full, within_seconds)
    except TimeoutError:
        raise AssertionError(f"not full after {within_seconds:.0f} s: {pool.snapshot()}") from None


# --- from outside; each asks the API server in a thread, so that the pool goes on meanwhile ---


async def kubectl(cluster: Cluster, *arguments: str) -> str:
    return await anyio.to_thread.run_sync(lambda: cluster.kubectl(*arguments))


async def pods(cluster: Cluster, namespace: str) -> list[Any]:
    """As the API server has them, those that are being deleted too."""
    found: list[Any] = (await anyio.to_thread.run_sync(lambda: cluster.get("pods", "-n", namespace)))["items"]
    return found


async def pods_are(cluster: Cluster, namespace: str, count: int, within_seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until there are exactly so many; returns after how many seconds that was."""
    began = anyio.current_time()
    with anyio.fail_after(within_seconds):
        while len(await pods(cluster, namespace)) != count:  # noqa: ASYNC110  # a watch is what is under test
            await anyio.sleep(LOOK_SECONDS)
    return anyio.current_time() - began


async def gone(cluster: Cluster, namespace: str, name: str, within_seconds: float = PATIENCE_SECONDS) -> None:
    with anyio.fail_after(within_seconds):
        while name in {pod["metadata"]["name"] for pod in await pods(cluster, namespace)}:  # noqa: ASYNC110
            await anyio.sleep(LOOK_SECONDS)
