"""The launcher as the service sees it: two sockets on which it takes orders, and a lifeline.

service --lifeline--> keeper --fork--> nursery --exec--> template
    \\______ control ______________________/                  /
     \\_____ control ________________________________________/
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

import anyio
import msgspec

from pool.errors import SandboxStartFailed
from pool.local.control import Control
from pool.local.environment import ProgramEnvironment
from pool.local.lifeline import KeeperProcess
from pool.local.policy import UpkeepPolicy
from pool.local.template import Template
from sandbox_runtime import variables, wire

_HERE = os.path.dirname(os.path.abspath(__file__))
_START = os.path.join(_HERE, "launcher", "start.py")
_RUNTIME = os.path.dirname(os.path.abspath(wire.__file__))


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher is started with."""

    environment: ProgramEnvironment
    preload: tuple[str, ...]
    """Modules that must be there."""
    preload_if_there: tuple[str, ...] = ()
    group_parents: tuple[str, ...] = ()
    starting_doors: tuple[str, ...] = ()
    """Files of cgroups that a template enters (`cgroups/limits.py`)."""
    cleans: bool = False
    """Programs may follow each other in a sandbox."""
    left_out: tuple[str, ...] = ()
    """Steps of the lock-down to leave out, or `child.COLD`. SECURITY: only tests fill it; no setting leads here."""

    def keeper_facts(self, lifeline: int, control: int) -> dict[str, object]:
        """What `launcher/keeper.py` is told, with the numbers of its descriptors."""
        environment = variables.of_programs(self.environment.python)
        science_facts = {
            "as_root": os.geteuid() == 0,
            "trees": self.environment.trees,
            "font_lists": self.environment.font_lists,
            "preload": self.preload,
            "preload_if_there": self.preload_if_there,
            "environment": environment,
        }
        words = [json.dumps(science_facts), json.dumps(self.left_out)]
        return {
            "as_root": os.geteuid() == 0,
            "lifeline": lifeline,
            "nursery_control": control,
            "group_parents": self.group_parents,
            "science_command": [self.environment.python, _START, "science", _RUNTIME, *words],
            "science_environment": environment,
            "trees": self.environment.trees,
        }


class Launcher:
    """One launcher, from its start to its end. Once it is lost it is of no more use, and only to be closed."""

    def __init__(self, plan: LaunchPlan, policy: UpkeepPolicy) -> None:
        self.lost = anyio.Event()
        self.why_lost = ""
        self._plan, self._policy = plan, policy
        self._keeper: KeeperProcess | None = None
        self._nursery: Control | None = None
        self._template: Template | None = None

    @property
    def preloaded(self) -> tuple[str, ...]:
        return self._template.preloaded if self._template else ()

    async def start(self) -> None:
        """Start it, and return when its template has everything loaded. Raises `SandboxStartFailed`."""
        try:
            self._start_keeper()
            await self.renew()
        except OSError as error:
            await self.close(service_goes_on=True)
            raise SandboxStartFailed(f"the launcher could not be started: {error}", reason="launcher") from error
        except BaseException:
            await self.close(service_goes_on=True)
            raise

    async def renew(self) -> None:
        """Use a new template from now on; sandboxes of the old one live on. Raises `SandboxStartFailed`."""
        newer = await self._new_template()
        if newer.control.is_closed:
            newer.close()
            raise SandboxStartFailed("the template has ended as soon as it was loaded", reason="launcher")
        older, self._template = self._template, newer
        if older is not None:
            older.finish()

    async def spawn(self, host_id: int, limits: Mapping[str, int], own: Sequence[int]) -> int:
        """Have a zygote forked; returns a handle on it. `own` are its socket to the supervisor and its cgroups."""
        words = {"do": "spawn", "host_id": host_id, "limits": limits}
        template = self._template
        if template is None:
            raise SandboxStartFailed("the launcher has no template", reason="launcher")
        seconds = self._policy.order_seconds
        return (await template.control.order(words, own, seconds=seconds, expected_descriptors=1))[0]

    async def supervise(self, limits: Mapping[str, int], gauges: Mapping[str, int], own: Sequence[int]) -> None:
        """Have a supervisor forked. `own` are the zygote's handle, the channel and the supervisor's socket to it."""
        facts = {"limits": limits, "preloaded": self.preloaded, "cleans": self._plan.cleans}
        words = {"do": "supervise", "gauges": list(gauges), **facts}
        await self._order_nursery(words, [*own, *gauges.values()], seconds=self._policy.order_seconds)

    async def close(self, *, service_goes_on: bool = False) -> None:
        """End it and everything below it; returns when it is gone."""
        for each in (self._template, self._nursery):
            if each is not None:
                each.close()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.end(seconds=self._policy.end_seconds, service_goes_on=service_goes_on)

    def _start_keeper(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with closing(theirs):
            self._nursery = Control(ours, "the nursery", self._lose)
            self._keeper = KeeperProcess(
                lambda lifeline: self._command(lifeline, theirs.fileno()),
                [theirs.fileno()],
                lambda: self._lose("the keeper has ended"),
            )

    async def _new_template(self) -> Template:
        seconds = self._policy.load_seconds
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        template = Template(ours, self._lose_template)
        with ExitStack() as undo:
            undo.callback(template.kill)
            with closing(theirs), ExitStack() as opened:
                doors = [os.open(door, os.O_WRONLY | os.O_CLOEXEC) for door in self._plan.starting_doors]
                for door in doors:
                    opened.callback(os.close, door)
                # The first such order waits for the nursery itself, which is an interpreter that is being started.
                (handle,) = await self._order_nursery(
                    {"do": "template"}, [theirs.fileno(), *doors], seconds=seconds, expected_descriptors=1
                )
            await template.load(handle, seconds=seconds)
            undo.pop_all()
        return template

    async def _order_nursery(
        self, words: Mapping[str, object], own: Sequence[int], *, seconds: float, expected_descriptors: int = 0
    ) -> list[int]:
        if self._nursery is None:
            raise SandboxStartFailed("the launcher has not been started", reason="launcher")
        return await self._nursery.order(words, own, seconds=seconds, expected_descriptors=expected_descriptors)

    def _lose_template(self, template: Template, why: str) -> None:
        # One that is still loading, and one that was renewed, may go without the others.
        if template is self._template:
            self._lose(why)

    def _lose(self, why: str) -> None:
        if not self.lost.is_set():
            self.why_lost = why
            self.lost.set()

    def _command(self, lifeline: int, control: int) -> list[str]:
        facts = self._plan.keeper_facts(lifeline, control)
        left_out = json.dumps(self._plan.left_out)
        return [sys.executable, "-I", "-S", _START, "keeper", _RUNTIME, json.dumps(facts), left_out]
