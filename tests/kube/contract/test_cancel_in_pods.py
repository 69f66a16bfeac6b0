"""Runs that are cancelled in pods, by whoever holds the lease and over HTTP; and output that comes while they run.

One service for all of them: it keeps two pods warm, runs one program at a time, and what is cancelled costs one pod.
"""

from __future__ import annotations

import http.client
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import anyio
import pytest

from pool import Program, SandboxPool
from pool.kube import KubeBackend
from tests.cluster.harness import Cluster, CommandFailed, eventually
from tests.fakes.pools import is_full
from tests.http_service import Running, events, running
from tests.images.building import Images
from tests.kube.support.pods import PATIENCE_SECONDS, plan, restricted_namespace
from tests.kube.support.runs import ListeningSink

pytestmark = pytest.mark.slow

BATCH, STREAM = "/v1/execute", "/v1/execute/stream"
QUEUE_SECONDS = 2.0
GONE_SECONDS = 10.0
"""For pods that are not used any more. One that nobody deletes is found as a stray after half a minute."""
MARK = "begun.txt"
FOREVER = f"import time\nopen('{MARK}', 'w').write('x')\nprint('on', flush=True)\ntime.sleep(60)"
ENDED = re.compile(r'^code_interpreter_terminations_total\{reason="(\w+)"\} (\d+)', re.MULTILINE)


class Served:
    """The service, and what can be seen of its pods from outside."""

    def __init__(self, service: Running, cluster: Cluster, namespace: str) -> None:
        self.service, self._cluster, self._namespace = service, cluster, namespace

    def until_full(self) -> None:
        """Only pods that nobody uses, as many as there should be."""
        pool = self.service.service.pool
        self.service.until(lambda: is_full(pool), PATIENCE_SECONDS)
        eventually(lambda: len(self.pods()) == pool.settings.size, GONE_SECONDS)

    def pods(self) -> set[str]:
        return {each["metadata"]["name"] for each in self._cluster.get("pods", "-n", self._namespace)["items"]}

    def begun_in(self) -> set[str]:
        """The pods in which the program has begun."""
        return {pod for pod in self.pods() if MARK in self._workspace(pod)}

    def _workspace(self, pod: str) -> str:
        try:
            return self._cluster.kubectl("exec", pod, "-n", self._namespace, "--", "ls", "/workspace")
        except CommandFailed:  # it is still to come, or about to go
            return ""

    def ended(self) -> Counter[str]:
        """How many runs have ended in which way."""
        metrics = self.service.client.get("/metrics").text
        return Counter({reason: int(count) for reason, count in ENDED.findall(metrics)})

    @contextmanager
    def one_cancelled(self) -> Iterator[None]:
        """What is done within cancels a run: that costs its pod and nothing else, and it begins in no other."""
        self.until_full()
        before, ended = self.pods(), self.ended()
        yield
        self.until_full()
        assert len(before - self.pods()) == 1
        assert self.begun_in() == set()
        assert self.ended() - ended == {"cancelled": 1}

    @contextmanager
    def asked(self, path: str, **headers: str) -> Iterator[http.client.HTTPConnection]:
        """A request for a long program, which has begun; at the end its client leaves."""
        host, port = self.service.url.removeprefix("http://").split(":")
        body = json.dumps({"code": FOREVER, "timeout_ms": 60_000})
        with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            eventually(lambda: len(self.begun_in()) == 1, PATIENCE_SECONDS)
            yield connection

    def cancel(self, execution: str) -> int:
        return self.service.client.delete(f"/v1/executions/{execution}").status_code


@pytest.fixture(scope="module")
def served(cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = {"executor_backend": "kubernetes", "max_in_flight": 1, "execution_queue_timeout_sec": QUEUE_SECONDS}
    with (
        restricted_namespace(cluster) as namespace,
        running(
            tmp_path_factory.mktemp("service"), KubeBackend(plan(cluster, images, namespace)), **settings
        ) as service,
    ):
        yield Served(service, cluster, namespace)


async def cancelled_when_begun(pool: SandboxPool) -> None:
    sink = ListeningSink()

    async def run() -> None:
        async with pool.lease(deadline=anyio.current_time() + 10) as lease:
            await lease.run(Program(code=FOREVER, timeout_ms=60_000), (), sink, anyio.current_time() + 80)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await sink.begun.wait()
        tasks.cancel_scope.cancel()


def test_a_lease_that_is_cancelled_in_its_run_costs_its_pod(served: Served):
    with served.one_cancelled():
        served.service.call(cancelled_when_begun, served.service.service.pool)


@pytest.mark.parametrize("path", [BATCH, STREAM])
def test_a_client_that_leaves_ends_its_run(served: Served, path: str):
    with served.one_cancelled(), served.asked(path):
        assert served.service.snapshot().in_flight == 1
    assert served.service.client.get("/v1/files").json() == {"files": []}


def test_a_run_that_is_deleted_ends_and_its_caller_is_told(served: Served):
    name = str(uuid.uuid4())
    with served.one_cancelled(), served.asked(BATCH, **{"X-Execution-Id": name}) as connection:
        assert served.cancel(name) == 204
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (409, "execution_cancelled")
    assert served.cancel(name) == 404


def test_the_output_of_a_stream_comes_while_its_program_runs(served: Served):
    body, named = {"code": FOREVER, "timeout_ms": 60_000}, {"X-Execution-Id": str(uuid.uuid4())}
    with served.one_cancelled(), served.service.client.stream("POST", STREAM, json=body, headers=named) as answer:
        lines = answer.iter_lines()
        assert any('"on\\n"' in line for line in lines)
        assert served.service.snapshot().in_flight == 1
        assert len(served.begun_in()) == 1
        assert served.cancel(named["X-Execution-Id"]) == 204
        assert "event: error" in list(lines)


def test_who_waits_in_vain_is_told_to_come_again(served: Served):
    with served.one_cancelled():
        with served.asked(BATCH):
            answer = served.service.execute("print(1)")
        assert (answer.status_code, answer.json()["code"]) == (503, "pool_timeout")
        assert int(answer.headers["Retry-After"]) >= 1
    assert served.service.execute("print('alive')").json()["stdout"] == "alive\n"


def test_what_was_streamed_is_whole(served: Served):
    served.until_full()
    with served.service.client.stream("POST", STREAM, json={"code": "for n in range(3): print(n, flush=True)"}) as got:
        *outputs, (kind, result) = events(got)
    assert "".join(data["data"] for _, data in outputs) == "0\n1\n2\n"
    assert (kind, result["exit_code"]) == ("result", 0)
