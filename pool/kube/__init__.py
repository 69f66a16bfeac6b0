"""Sandboxes as pods: the Kubernetes backend. The only place that may import its client."""

from pool.kube.backend import KubeBackend, KubePlan
from pool.kube.config import ConfigUnusable, ExecutorConfig
from pool.kube.opening import kube_backend

__all__ = ["ConfigUnusable", "ExecutorConfig", "KubeBackend", "KubePlan", "kube_backend"]
