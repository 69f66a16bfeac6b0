"""What the service asks of the API server while it answers requests: nothing."""

from __future__ import annotations

import json
from pathlib import Path

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
    settings = {"max_runs_per_sandbox": 1000}
    async with kube_pool(
        cluster, images, restricted, settings=settings, kubeconfig=kubeconfig, config={"anchor": ANCHOR}
    ) as pool:
        await full(pool)
        await anyio.sleep(AUDIT_SECONDS)
        read = log.stat().st_size
        for number in range(RUNS):
            _, sink = await ran(pool, f"print({number})")
            assert sink.streams["stdout"] == f"{number}\n".encode()
        await anyio.sleep(AUDIT_SECONDS)
        with log.open("rb") as file:
            file.seek(read)
            entries = [json.loads(line) for line in file.read().splitlines()]
        assert pool.snapshot().slots["ready"] == pool.settings.size
    name = f"system:serviceaccount:{restricted}:{ACCOUNT}"
    asked = {(each["verb"], each["objectRef"]["resource"]) for each in entries if each["user"]["username"] == name}
    print(f"{RUNS} runs; asked meanwhile: {sorted(asked)}")
    assert {resource for verb, resource in asked if verb != "watch"} <= {"leases"}
