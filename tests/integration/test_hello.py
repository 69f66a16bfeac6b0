"""A sandbox that is held by less than this machine gave when the service started is not used."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from pool import PoolSettings, PoolTimeout, SandboxPool
from pool.backend import Isolation
from pool.local import LocalBackend
from sandbox_runtime.lockdown import REDUCED
from tests.local_backends import Dialogue, eventually, local_backend, sandbox_of
from tests.sandboxes import groups, plan

SETTINGS = PoolSettings(size=1, max_in_flight=1, queue=1)


class Expecting(LocalBackend):
    """Was started where everything could be had."""

    def isolation(self) -> Isolation:
        expected = tuple(dict.fromkeys([*super().isolation().lockdown, *sorted(REDUCED)]))
        return msgspec.structs.replace(super().isolation(), lockdown=expected)


@pytest.mark.parametrize("step", sorted(REDUCED))
async def test_a_sandbox_that_lacks_an_expected_step_serves_nobody(step: str):
    backend = Expecting(plan(left_out=[step]), groups())
    async with SandboxPool(SETTINGS, plan().limits, backend) as pool:
        await eventually(lambda: pool.snapshot().hold_reason == "lockdown")
        with pytest.raises(PoolTimeout, match=r"sandboxes cannot be started \(lockdown\)"):
            async with pool.lease(deadline=anyio.current_time() + 0.5):
                pass


async def test_every_sandbox_says_all_that_is_expected():
    async with local_backend() as backend, sandbox_of(backend) as sandbox:
        hello = await Dialogue(sandbox.channel).hello()
        expected = backend.isolation().lockdown
    assert set(hello.lockdown) == set(expected)


async def test_what_a_test_leaves_out_is_not_expected():
    async with local_backend(left_out=["landlock"]) as backend, sandbox_of(backend) as sandbox:
        hello = await Dialogue(sandbox.channel).hello()
        expected = backend.isolation().lockdown
    assert "landlock" not in hello.lockdown
    assert set(hello.lockdown) == set(expected)
