"""Has a launcher running, and its template young.

    started ──renewal due──▶ a new template takes over; the old one ends with its last sandbox
       │
       └──lost (ended, or hangs)──▶ it and all its sandboxes are ended; a new one is started, with pauses

While there is none, whoever wants a sandbox is told why: the pool then holds, and tries again.
"""

from __future__ import annotations

import logging
from typing import NoReturn

import anyio

from pool.errors import SandboxStartFailed
from pool.local.launch import Launcher, LaunchPlan
from pool.local.policy import UpkeepPolicy

_log = logging.getLogger(__name__)


class Upkeep:
    """One for the life of a backend: `start`, then `run` until it is cancelled, then `close`."""

    def __init__(self, plan: LaunchPlan, policy: UpkeepPolicy) -> None:
        self.generation = 0
        """How many templates there have been."""
        self._plan, self._policy = plan, policy
        self._launcher: Launcher | None = None
        self._why = "the launcher has not been started"
        self._restarts: list[float] = []
        self._forks = 0
        self._forked_enough = anyio.Event()

    def launcher(self) -> Launcher:
        """The one to use now. Raises `SandboxStartFailed`."""
        if self._launcher is None:
            raise SandboxStartFailed(self._why, reason="launcher")
        return self._launcher

    def count_fork(self) -> None:
        self._forks += 1
        if self._policy.renewal_due(self._forks, 0.0):
            self._forked_enough.set()

    async def start(self) -> None:
        """Raises `SandboxStartFailed` with the first failure: what cannot work once will not work later."""
        self._launcher = await self._started()

    async def run(self) -> NoReturn:
        while True:
            await self._keep_young(self.launcher())
            await self._replace(self.launcher())

    async def close(self) -> None:
        launcher, self._launcher = self._launcher, None
        self._why = "the launcher was closed"
        if launcher is not None:
            await launcher.close()

    async def _started(self) -> Launcher:
        launcher = Launcher(self._plan, self._policy)
        await launcher.start()
        self._count_template()
        return launcher

    def _count_template(self) -> None:
        self.generation += 1
        self._forks = 0
        self._forked_enough = anyio.Event()

    # --- renewing

    async def _keep_young(self, launcher: Launcher) -> None:
        """Until it is lost."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._renew_for_ever, launcher)
            await launcher.lost.wait()
            tasks.cancel_scope.cancel()

    async def _renew_for_ever(self, launcher: Launcher) -> None:
        while True:
            with anyio.move_on_after(self._policy.renew_seconds):
                await self._forked_enough.wait()
            await self._renew(launcher)

    async def _renew(self, launcher: Launcher) -> None:
        failures = 0
        while not await self._renewed(launcher):
            failures += 1
            await anyio.sleep(self._policy.renewal_pause_seconds(failures))

    async def _renewed(self, launcher: Launcher) -> bool:
        """False when no new template could be made; the old one is still in use then."""
        try:
            await launcher.renew()
        except (SandboxStartFailed, OSError) as error:
            _log.warning("no new template, the old one stays in use: %s", error)
            return False
        self._count_template()
        return True

    # --- replacing

    async def _replace(self, lost: Launcher) -> None:
        self._launcher = None
        self._why = f"the launcher was lost ({lost.why_lost}); another is being started"
        _log.error("the launcher was lost with all its sandboxes: %s", lost.why_lost)
        await lost.close(service_goes_on=True)
        while self._launcher is None:
            await anyio.sleep(self._policy.restart_pause_seconds(self._restarts, anyio.current_time()))
            await self._try_to_start(lost.why_lost)

    async def _try_to_start(self, why_lost: str) -> None:
        now = anyio.current_time()
        self._restarts = [*self._policy.recent(self._restarts, now), now]
        try:
            self._launcher = await self._started()
        except SandboxStartFailed as error:
            self._why = f"the launcher was lost ({why_lost}), and another could not be started: {error}"
            _log.error("another launcher could not be started: %s", error)
