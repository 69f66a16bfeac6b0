"""What the service asks of the API server while it answers requests: nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.cluster.harness import Cluster
from tests.images.building import Images
from tests.kube.support.accounts import ACCOUNT, ANCHOR, chart_account
from tests.kube.support.pods import full, kube_pool, ran

pytestmark = pytest.mark.slow

RUNS = 200
AUDIT_SECONDS = 1.0
"""An entry is written a moment after its answer."""


async def test_two_hundred_runs_ask_the_api_server_for_nothing(
    cluster: Cluster, images: Images, restricted: str, tmp_path: Path
):
    log = cluster.audit_log
    kubeconfig = await anyio.to_thread.run_sync(chart_account, cluster, restricted, tmp_path)
    began = log.stat().st_size
    settings = {"max_runs_per_sandbox": 1000}
    async with kube_pool(
        cluster, images, restricted, settings=settings, kubeconfig=kubeconfig, config={"anchor": ANCHOR}
    ) as pool:
        await full(pool)
        await anyio.sleep(AUDIT_SECONDS)
        read = log.stat().st_size
        # It would be quiet, too, in a log that does not show this account.
        assert ("create", "pods") in asked_of(entries(log, began, read), restricted)
        for number in range(RUNS):
            _, sink = await ran(pool, f"print({number})")
            assert sink.streams["stdout"] == f"{number}\n".encode()
        await anyio.sleep(AUDIT_SECONDS)
        asked = asked_of(entries(log, read, log.stat().st_size), restricted)
        assert pool.snapshot().slots["ready"] == pool.settings.size
    print(f"{RUNS} runs; asked meanwhile: {sorted(asked)}")
    assert {resource for verb, resource in asked if verb != "watch"} <= {"leases"}


def entries(log: Path, start: int, end: int) -> list[Any]:
    """Those between two places in the log; the last line may be one that is still being written."""
    with log.open("rb") as file:
        file.seek(start)
        written = file.read(end - start)
    return [json.loads(line) for line in written[: written.rfind(b"\n") + 1].splitlines()]


def asked_of(found: list[Any], namespace: str) -> set[tuple[str, str]]:
    """Verbs and kinds of what the service's account asked for. Who is refused at the door has no name."""
    name = f"system:serviceaccount:{namespace}:{ACCOUNT}"
    return {(each["verb"], each["objectRef"]["resource"]) for each in found if each["user"].get("username") == name}
