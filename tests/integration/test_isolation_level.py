"""A result says how its own sandbox was held, `/health` how the least of them is: nodes of a cluster may differ."""

from __future__ import annotations

from pathlib import Path

from pool import Isolation
from tests.fakes.backend import FakeBackend
from tests.fakes.faults import hello
from tests.fakes.supervisor import FakeSupervisor
from tests.http_service import running


class WithoutLandlock(FakeSupervisor):
    def start(self) -> None:
        self.say(hello(missing=["landlock"]))


class Held(FakeBackend):
    def isolation(self) -> Isolation:
        return Isolation(level="full")


def test_a_kernel_without_landlock_is_told_in_health_and_in_each_result(tmp_path: Path) -> None:
    with running(tmp_path, Held(start=WithoutLandlock)) as service:
        health = service.client.get("/health").json()
        result = service.execute("print(1)").json()
        session_id = service.client.post("/v1/sessions", json={}).json()["session_id"]
        in_session = service.execute("print(1)", session_id=session_id).json()

    assert (health["isolation"], health["isolation_missing"]) == ("reduced", ["landlock"])
    assert (result["isolation"], in_session["isolation"]) == ("reduced", "reduced")


def test_a_result_is_not_blamed_for_the_sandbox_of_another(tmp_path: Path) -> None:
    backend = Held(start=WithoutLandlock)
    backend.next_starts.extend([FakeSupervisor, FakeSupervisor])  # the canary, and one
    with running(tmp_path, backend, pool_size=2) as service:
        service.until(lambda: service.service.pool.snapshot().slots["ready"] == 2)
        levels = [service.execute("print(1)").json()["isolation"] for _ in range(3)]
        health = service.client.get("/health").json()

    assert sorted(levels) == ["full", "reduced", "reduced"]
    assert health["isolation"] == "reduced"
