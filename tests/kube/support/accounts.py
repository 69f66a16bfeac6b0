"""A service account with exactly the rights that the chart gives the service, and a kubeconfig for it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.harness import Cluster
from tests.kube.support.relay import written
from tests.source_tree import ROOT

CHART = ROOT / "deploy/helm/code-interpreter"
RELEASE = "tested"
ACCOUNT = "broker"
ANCHOR = f"{RELEASE}-code-interpreter-anchor"
PARTS = ("anchor", "role")


def chart_account(cluster: Cluster, namespace: str, folder: Path) -> Path:
    """Make the account, the chart's role for it and the chart's anchor (`ANCHOR`); returns its kubeconfig."""
    values = {
        "executor.namespace.name": namespace,
        "serviceAccount.create": "false",
        "serviceAccount.name": ACCOUNT,
    }
    settings = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    shown = [word for part in PARTS for word in ("--show-only", f"templates/executor/{part}.yaml")]
    rendered = cluster.helm("template", RELEASE, str(CHART), "--namespace", namespace, *settings, *shown)
    cluster.kubectl("create", "serviceaccount", ACCOUNT, "-n", namespace)
    cluster.kubectl("apply", "-f", "-", input=rendered)
    token = cluster.kubectl("create", "token", ACCOUNT, "-n", namespace, "--duration=1h").strip()
    server = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))["clusters"][0]["cluster"]
    return written(folder / "account.kubeconfig", server, {"token": token})
