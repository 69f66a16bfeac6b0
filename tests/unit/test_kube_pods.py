"""What is read of a pod's status, and what its sandbox makes of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pool.kube.pods import Pod
from pool.kube.sandbox import KubeSandbox


def pod(*states: dict[str, Any], phase: str = "Failed") -> Pod:
    """One with a container for each state."""
    containers = [{"name": f"c{number}", "state": state} for number, state in enumerate(states)]
    metadata = {"name": "p", "uid": "u", "resourceVersion": "1"}
    status = {"phase": phase, "containerStatuses": containers}
    return msgspec.convert({"metadata": metadata, "status": status}, Pod)


def ended(reason: str, exit_code: int = 137) -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": exit_code}}


@pytest.mark.parametrize("states", [[ended("OOMKilled")], [ended("Error", 1), ended("OOMKilled")]])
def test_a_container_that_was_killed_for_memory_was_out_of_it(states: list[dict[str, Any]]):
    assert pod(*states).was_out_of_memory


@pytest.mark.parametrize("states", [[], [{}], [ended("Error")], [ended("Completed", 0)], [{"waiting": {}}]])
def test_any_other_end_is_none_for_want_of_memory(states: list[dict[str, Any]]):
    assert not pod(*states).was_out_of_memory


def test_a_sandbox_knows_why_its_pod_ended_before_it_says_that_it_is_lost():
    said: list[bool] = []
    house: Any = None  # which is asked for nothing here

    def tell() -> None:
        said.append(sandbox.was_out_of_memory)

    sandbox = KubeSandbox("s", pod({}, phase="Running"), house, tell, lambda: None)
    sandbox.saw(pod(ended("OOMKilled")))
    sandbox.saw(None)
    assert said == [True]
