"""Sandboxes as pods of a cluster.

    create ── a free pod of our shape? take it : POST one ── ready (from the watch) ── exec the supervisor ──▶ sandbox

Nothing on the way from a request to its answer comes here: a lease is an open stream.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.abc import TaskGroup

from pool.backend import Isolation, Sandbox, Target
from pool.errors import SandboxLost, SandboxStartFailed
from pool.kube import channels, manifest
from pool.kube.api import Api, connect
from pool.kube.events import Events
from pool.kube.mirror import Change
from pool.kube.owners import Owners, new_owner
from pool.kube.pods import Pod
from pool.kube.reflector import Reflector
from pool.kube.sandbox import KubeSandbox, delete, patch
from pool.kube.session_key import SessionKey
from pool.kube.sessions import KubeSessions
from pool.kube.troubles import UNSCHEDULABLE, ClusterError, not_seen, start_refused, why_not_coming
from pool.settings import RunLimits

REQUIRED = (
    *("pid_namespace", "read_only_root", "no_capabilities", "no_new_privileges", "own_uid", "zygote_not_dumpable"),
    *("supervisor_not_dumpable", "own_session", "descriptors", "environment", "rlimits", "seccomp"),
)
"""Steps that every pod must report: it sees them from inside, where the manifest only asks for them."""

DELETE_SECONDS = 5.0
"""For telling the API server that a start came to nothing. Longer keeps a pool from closing."""

SYNC_SECONDS = 5.0
"""For the pods that there are to be listed. Less gives up where there are thousands; more makes it later that an
operator is told that they cannot be."""

SURPLUS_SECONDS = 10.0
"""A replica that has made no pod for so long wants none of those that are free."""

_POD = msgspec.json.Decoder(Pod)


class KubePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend is made with."""

    pods: manifest.Plan
    replica: str
    """This service's own pod, or a name for a service outside of the cluster."""
    kubeconfig: str | None = None
    """A file; None: as a pod of the cluster."""
    targets: tuple[Target, ...] = ()
    """What no pod may reach. Empty: nothing is proved."""
    session_key: SessionKey | None = None
    """That all replicas have. None: each keeps the sessions that it has made."""


class KubeBackend:
    """Makes a sandbox in about a second and a half: so a pool of them is kept warm."""

    name = "kubernetes"

    def __init__(self, plan: KubePlan) -> None:
        self._plan, self._config = plan, plan.pods.config
        self.owner = new_owner(plan.replica)
        self.session_key = plan.session_key
        self.sessions: KubeSessions | None = None
        """Once it runs."""
        self.protocols: tuple[str, ...] = channels.PROTOCOLS if self._config.exec_protocol == "auto" else (channels.V4,)
        self._sandboxes: dict[str, KubeSandbox] = {}
        self._expected: dict[str, anyio.Event] = {}
        """Set at each change of a pod that somebody waits for, by uid."""
        self._made_at = -SURPLUS_SECONDS
        self._shapes: set[str] = set()
        """Of the pods that were wanted here: those of runs, and of sessions."""
        self._anchor_uid: str | None = None
        """Of the object that owns our pods, and that our Events are on. None: there is none."""

    # --- as a backend ---

    def isolation(self) -> Isolation:
        network = "egress_proved" if self._plan.targets else "egress_unchecked"
        return Isolation(level="full", network=network, lockdown=REQUIRED)

    def generation(self) -> int:
        return 1

    def unreachable(self) -> tuple[Target, ...]:
        return self._plan.targets

    def held(self, reason: str, text: str) -> None:
        self._events.tell(reason, text)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        try:
            self.api = await connect(self._plan.kubeconfig)
        except ClusterError as error:
            raise SandboxStartFailed(str(error), reason="cluster") from error
        try:
            async with self._running():
                yield
        finally:
            await self.api.close()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        await self._find_anchor()
        self._reflector = Reflector(self.api, self._config.namespace, manifest.selector(self._config), self._saw)
        self._events = Events(self.api, self._config, self._anchor_uid, self.owner)
        if self.session_key is not None:
            self.sessions = KubeSessions(self, self._reflector, self.session_key)
        owners = Owners(self.api, self._config, self.owner, self._owner_uid, self._sandboxes.__contains__)
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._reflector.run)
            self._tasks.start_soon(owners.run, self._reflector.mirror, self._wants)
            self._tasks.start_soon(self._events.run)
            if self.sessions is not None:
                self._tasks.start_soon(self.sessions.run)
            try:
                yield
            finally:
                self._tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True, deadline=anyio.current_time() + DELETE_SECONDS):
                    await owners.withdraw()

    async def _find_anchor(self) -> None:
        """Raises `SandboxStartFailed` where pods are to have an owner: without it they would outlive the release."""
        if not self._config.anchor:
            return
        path = f"/api/v1/namespaces/{self._config.namespace}/configmaps/{self._config.anchor}"
        try:
            self._anchor_uid = _POD.decode(await self.api.call("GET", path)).metadata.uid
        except ClusterError as error:
            if not self._config.set_owner_references:
                return
            text = f"the anchor of the pods, ConfigMap {self._config.namespace}/{self._config.anchor}: {error.message}"
            raise SandboxStartFailed(text, reason="anchor") from error

    @property
    def _owner_uid(self) -> str | None:
        """What our pods and our Lease go with."""
        return self._anchor_uid if self._config.set_owner_references else None

    def _wants(self, pod: Pod) -> bool:
        """One that is free. Of an older release's none are wanted, however many are being made."""
        is_ours = pod.metadata.labels.get(manifest.SHAPE) in self._shapes
        return is_ours and anyio.current_time() - self._made_at <= SURPLUS_SECONDS

    # --- making one ---

    async def create(
        self, slot: str, *, on_lost: Callable[[], None], on_cut: Callable[[], None], limits: RunLimits
    ) -> Sandbox:
        self._made_at = anyio.current_time()
        await self._synced()
        pods = msgspec.structs.replace(self._plan.pods, limits=limits)
        shape = manifest.shape(pods)
        self._shapes.add(shape)
        pod = await self._taken(shape) or await self._posted(pods)
        sandbox = KubeSandbox(slot, pod, self, on_lost, on_cut)
        self._sandboxes[pod.metadata.uid] = sandbox
        try:
            await self._ready(pod.metadata.uid, anyio.current_time() + self._config.ready_timeout_seconds)
            await sandbox.connect()
        except BaseException as error:
            await self._abandon(sandbox, pod)
            if isinstance(error, SandboxLost):
                raise SandboxStartFailed(str(error), reason="exec") from error
            raise
        return sandbox

    async def _synced(self) -> None:
        """Wait until all pods were seen once: before that a free one would be overlooked."""
        with anyio.move_on_after(SYNC_SECONDS):
            await self._reflector.synced.wait()
            return
        if trouble := self._reflector.trouble:
            raise not_seen(trouble)
        raise SandboxStartFailed("the API server has not told in time which pods there are", reason="api_unavailable")

    async def _taken(self, shape: str) -> Pod | None:
        """A pod that another replica has handed over, if there is one such as we would make."""
        for pod in list(self._reflector.mirror.pods.values()):
            if pod.owner == manifest.FREE and pod.is_ready and not pod.is_ending and self._is_alike(pod, shape):
                change = {"metadata": {"labels": {manifest.OWNER: self.owner}}}
                try:
                    return _POD.decode(
                        await patch(self.api, self.path(pod.metadata.name), pod.metadata, change),
                    )
                except ClusterError:  # somebody else was quicker, or it is gone
                    continue
        return None

    def _is_alike(self, pod: Pod, shape: str) -> bool:
        return pod.metadata.labels.get(manifest.SHAPE) == shape and pod.metadata.uid not in self._sandboxes

    async def _posted(self, pods: manifest.Plan) -> Pod:
        name = f"{self._config.pool[:40].rstrip('-.')}-{secrets.token_hex(5)}"
        body = manifest.pod(pods, name=name, owner=self.owner, anchor_uid=self._owner_uid)
        try:
            return _POD.decode(await self.api.call("POST", self.path(), body=msgspec.json.encode(body)))
        except ClusterError as error:
            # One that was made all the same is a stray of ours, and found as such (`owners.py`).
            raise start_refused(error) from error

    async def _ready(self, uid: str, deadline: float) -> None:
        """Wait until the watch shows it ready, or says why it never will be."""
        trouble: SandboxStartFailed | None = None
        while anyio.current_time() < deadline:
            pod = self._reflector.mirror.pods.get(uid)
            if pod is not None:
                if pod.is_ready:
                    return
                trouble = why_not_coming(pod)
                # A node may be on its way: a cluster that grows by itself looks at the pods that wait.
                if trouble is not None and trouble.reason != UNSCHEDULABLE:
                    raise trouble
            await self._news_of(uid, deadline)
        text = f"the pod was not ready after {self._config.ready_timeout_seconds:.0f} s"
        if trouble is None and self._reflector.trouble is not None:
            trouble = not_seen(self._reflector.trouble)
        raise trouble or SandboxStartFailed(text, reason="timeout")

    async def _news_of(self, uid: str, deadline: float) -> None:
        self._expected[uid] = news = anyio.Event()
        try:
            with anyio.CancelScope(deadline=deadline):
                await news.wait()
        finally:
            self._expected.pop(uid, None)

    async def _abandon(self, sandbox: KubeSandbox, pod: Pod) -> None:
        """A start that came to nothing, or is not wanted any more. What cannot be deleted now is found later."""
        sandbox.dismiss()
        self.forget(pod.metadata.uid)
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + DELETE_SECONDS):
            try:
                await delete(self.api, self.path(pod.metadata.name), pod.metadata)
            except ClusterError:
                return

    # --- for the pods ---

    def path(self, name: str = "", *rest: str) -> str:
        return "/".join([f"/api/v1/namespaces/{self._config.namespace}/pods", *filter(None, [name]), *rest])

    def start(self, pump: Callable[[], Coroutine[None, None, None]]) -> None:
        self._tasks.start_soon(pump)

    def forget(self, uid: str) -> None:
        self._sandboxes.pop(uid, None)

    def _saw(self, change: Change) -> None:
        pod = change.new or change.old
        if pod is None:
            return
        uid = pod.metadata.uid
        if sandbox := self._sandboxes.get(uid):
            sandbox.saw(change.new)
        if self.sessions is not None:
            self.sessions.saw(change)
        if news := self._expected.get(uid):
            news.set()
        if change.new is None and uid in self._expected:
            self._expected.pop(uid)

    _tasks: TaskGroup
    _events: Events
    _reflector: Reflector
    api: Api
