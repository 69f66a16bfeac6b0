"""A pod that is a session: what stays between two calls, and what ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from pool import Outcome, RunLimits, SandboxLost, Session
from tests.cluster.harness import Cluster
from tests.fakes.sinks import KeepingSink
from tests.images.building import Images
from tests.kube.support.pods import kube_pool, pods_are

pytestmark = pytest.mark.slow

LIMITS = RunLimits(workspace_bytes=64 * 2**20, loopback=1)
CALL_SECONDS = 20.0


@asynccontextmanager
async def opened(
    cluster: Cluster, images: Images, namespace: str, *, ttl_seconds: float = 600.0
) -> AsyncIterator[Session]:
    async with (
        kube_pool(cluster, images, namespace, settings={"size": 0}, limits=LIMITS) as pool,
        pool.lease(deadline=anyio.current_time() + 60) as lease,
    ):
        deadline = anyio.current_time() + CALL_SECONDS
        yield await lease.open_session(ttl_seconds=ttl_seconds, files=(), deadline=deadline, loopback=True)
    await pods_are(cluster, namespace, 0)


async def bash(session: Session, command: str, *, timeout_ms: int = 10_000) -> tuple[Outcome, str]:
    sink = KeepingSink()
    deadline = anyio.current_time() + CALL_SECONDS
    ended = await session.shell(command, timeout_ms=timeout_ms, sink=sink, deadline=deadline)
    return ended, sink.streams["stdout"].decode()


async def test_files_and_processes_stay_and_a_timeout_ends_its_call_alone(
    cluster: Cluster, images: Images, pods_namespace: str
):
    async with opened(cluster, images, pods_namespace) as session:
        _, printed = await bash(session, "echo kept > file; sleep 1000 & echo $! > pid; id -u; pwd")
        assert printed == "65532\n/workspace\n"
        ended, _ = await bash(session, "setsid sleep 1001 & sleep 1002", timeout_ms=500)
        assert (ended.exit_code, ended.timed_out) == (None, True)
        _, printed = await bash(
            session, "cat file; kill -0 $(cat pid) && echo alive; ps ax | grep -c '[s]leep 100[12]'"
        )
        assert printed == "kept\nalive\n0\n"


async def test_a_server_answers_a_later_call(cluster: Cluster, images: Images, pods_namespace: str):
    wait = "until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; do sleep 0.05; done"
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/index.html').read().decode(), end='')"
    async with opened(cluster, images, pods_namespace) as session:
        await bash(session, "echo hello > index.html; python3 -m http.server --bind 127.0.0.1 8080 > log 2>&1 &")
        ended, printed = await bash(session, f'{wait}; python3 -c "{ask}"')
        assert (ended.exit_code, printed) == (0, "hello\n")


async def test_its_time_ends_the_pod_itself(cluster: Cluster, images: Images, pods_namespace: str):
    async with opened(cluster, images, pods_namespace, ttl_seconds=2.0) as session:
        with pytest.raises(SandboxLost):
            await bash(session, "sleep 60", timeout_ms=15_000)
