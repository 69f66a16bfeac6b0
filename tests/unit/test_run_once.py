"""`code-interpreter run`, where it meets a machine on which no sandbox can be started."""

from __future__ import annotations

import pytest

from broker import run_once
from broker.settings import Settings
from pool import Program, SandboxStartFailed
from tests.fakes import faults
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import in_virtual_time


@in_virtual_time
async def test_a_person_is_told_why_no_sandbox_starts_instead_of_waiting():
    backend = FakeBackend(start=faults.EndsBeforeHello)

    with pytest.raises(SandboxStartFailed, match=f"{run_once.ATTEMPTS} times"):
        await run_once.run(Settings(), backend, Program(code="print(1)"), None, as_json=False)

    assert len(backend.created) == run_once.ATTEMPTS
    assert backend.live == {}
