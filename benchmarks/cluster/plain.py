"""What people run without a pool: pods by plain API calls, with the same image, the same manifest and the same client.

POST ── ready (from a watch, which nobody is quicker than) ── exec ── its output and its end ── DELETE
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import msgspec

from benchmarks.cluster.ground import Ground
from pool.conversation import Conversation
from pool.errors import ChannelLost
from pool.kube import manifest
from pool.kube.api import Api, connect
from pool.kube.mirror import Change
from pool.kube.pods import Pod
from pool.kube.reflector import Reflector
from pool.kube.sandbox import delete
from pool.kube.streams import ExecChannel
from pool.local import USUAL_PRELOAD
from pool.settings import RunLimits

SLEEP = ("sleep", "3600")
"""For a pod that only waits to be exec'd into."""
PRINT = ("python3", "-I", "-c", "print(1)")
POOL = "plain"
START_SECONDS = 60.0
SMALL_FILES_BYTES = 16 * 2**20

_POD = msgspec.json.Decoder(Pod)


class Plain:
    """Pods that no service knows of."""

    def __init__(self, ground: Ground, api: Api) -> None:
        self._api = api
        self._plan = manifest.Plan(
            config=msgspec.structs.replace(ground.config(POOL), set_owner_references=False, anchor=""),
            limits=RunLimits(workspace_bytes=SMALL_FILES_BYTES, tmp_bytes=SMALL_FILES_BYTES),
            preload_if_there=USUAL_PRELOAD,
        )
        self._news = anyio.Event()
        self._pods = f"/api/v1/namespaces/{ground.namespace}/pods"
        self.reflector = Reflector(api, ground.namespace, manifest.selector(self._plan.config), self._saw)

    def _saw(self, change: Change) -> None:
        self._news.set()
        self._news = anyio.Event()

    # --- pods ---

    async def post(self, command: Sequence[str] | None = None) -> Pod:
        """Make one; with a command of its own in place of the zygote."""
        body = manifest.pod(self._plan, name=f"plain-{secrets.token_hex(5)}", owner=POOL, anchor_uid=None)
        if command is not None:
            body["spec"]["containers"][0]["command"] = list(command)
        return _POD.decode(await self._api.call("POST", self._pods, body=msgspec.json.encode(body)))

    async def ready(self, pod: Pod) -> None:
        with anyio.fail_after(START_SECONDS):
            while not self._is_ready(pod):
                await self._news.wait()

    def _is_ready(self, pod: Pod) -> bool:
        known = self.reflector.mirror.pods.get(pod.metadata.uid)
        return known is not None and known.is_ready

    async def delete(self, pod: Pod) -> None:
        """Returns when the API server has taken it, as a caller would."""
        await delete(self._api, f"{self._pods}/{pod.metadata.name}", pod.metadata)

    async def gone(self) -> None:
        """Return when none of ours is left."""
        with anyio.fail_after(START_SECONDS):
            while self.reflector.mirror.pods:
                await self._news.wait()

    # --- processes in them ---

    @asynccontextmanager
    async def exec(self, pod: Pod, command: Sequence[str]) -> AsyncIterator[ExecChannel]:
        path = f"{self._pods}/{pod.metadata.name}/exec"
        channel = ExecChannel(await self._api.exec(path, manifest.CONTAINER, command), lambda: None)
        async with asyncio.TaskGroup() as group:
            group.create_task(channel.pump())
            try:
                yield channel
            finally:
                await channel.close("it was not needed any more")

    async def output(self, pod: Pod, command: Sequence[str]) -> bytes:
        """All that a command says, once it has ended."""
        said = b""
        async with self.exec(pod, command) as channel:
            try:
                while True:
                    said += await channel.receive()
            except ChannelLost:
                return said

    async def zygote(self, pod: Pod) -> None:
        """Return when the pod's zygote has loaded its libraries: it takes nobody in before, and a supervisor waits."""
        async with self.exec(pod, manifest.SUPERVISE) as channel:
            await Conversation(channel, self._plan.limits).hello(anyio.current_time() + START_SECONDS)

    # --- measured ---

    async def seconds_of_pods(self, count: int) -> list[float]:
        """A pod for each request: create, wait, exec, delete."""
        found = []
        for _ in range(count):
            began = time.perf_counter()
            pod = await self.post(SLEEP)
            await self.ready(pod)
            _check(await self.output(pod, PRINT))
            await self.delete(pod)
            found.append(time.perf_counter() - began)
            await self.gone()
        return found

    async def seconds_of_execs(self, count: int) -> list[float]:
        """An exec for each request, into a pod that runs already."""
        pod = await self.post(SLEEP)
        await self.ready(pod)
        found = []
        for _ in range(count):
            began = time.perf_counter()
            _check(await self.output(pod, PRINT))
            found.append(time.perf_counter() - began)
        await self.delete(pod)
        await self.gone()
        return found

    async def seconds_of_start(self, count: int) -> float:
        """So many POSTs of the pool's own pod at once: until the last zygote is ready."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._started()) for _ in range(count)]
        seconds = time.perf_counter() - began
        for task in tasks:
            await self.delete(task.result())
        await self.gone()
        return seconds

    async def _started(self) -> Pod:
        pod = await self.post()
        await self.ready(pod)
        await self.zygote(pod)
        return pod


def _check(said: bytes) -> None:
    if said != b"1\n":
        raise SystemExit(f"a baseline said {said[:100]!r}")


@asynccontextmanager
async def plain(ground: Ground) -> AsyncIterator[Plain]:
    api = await connect(ground.kubeconfig)
    try:
        made = Plain(ground, api)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.reflector.run)
            await made.reflector.synced.wait()
            yield made
            tasks.cancel_scope.cancel()
    finally:
        await api.close()
