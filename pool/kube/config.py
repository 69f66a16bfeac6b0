"""How the operator wants pods to be: the file that the chart writes, decoded and checked. Pure.

Keys and their meaning: `deploy/helm/code-interpreter/values.yaml`. What is not known is refused: a key with a slip in
it would be a setting that silently does nothing.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

FREE_FORM = dict[str, Any]
"""Parts of a pod that we hand through as they are; the API server checks them."""

GVISOR = ("gvisor", "runsc")


class ConfigUnusable(ValueError):
    """The file is no such file. The message says where, and what would be."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A part of the file."""


class SecurityContext(_Part, frozen=True, kw_only=True):
    mode: Literal["fixed", "platform"] = "fixed"
    """`platform` leaves the ids to the platform (OpenShift gives each namespace its own)."""
    run_as_user: Annotated[int, Meta(ge=1)] = 65532
    run_as_group: Annotated[int, Meta(ge=1)] = 65532
    fs_group: Annotated[int, Meta(ge=1)] = 65532
    read_only_root_filesystem: bool = True


class Resources(_Part, frozen=True, kw_only=True):
    """CPU and disk. The memory limit follows from what a program may use."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class EgressTarget(_Part, frozen=True, kw_only=True):
    host: str
    port: Annotated[int, Meta(ge=1, le=65535)]
    protocol: Literal["TCP", "UDP"] = "TCP"


class EgressCheck(_Part, frozen=True, kw_only=True):
    mode: Literal["on", "off"] = "on"
    """SECURITY: `off` trusts that something else holds the pods' network; `/health` says so."""
    targets: tuple[EgressTarget, ...] = ()
    """None: the API server, which is known to listen."""


class ExecutorConfig(_Part, frozen=True, kw_only=True):
    namespace: Annotated[str, Meta(min_length=1)]
    image: Annotated[str, Meta(min_length=1)]
    pool: Annotated[str, Meta(min_length=1, max_length=63)]
    """Whose pods they are: those of other releases in the namespace are left alone."""
    anchor: str = ""
    """The ConfigMap that owns all pods, so that they go when the release goes."""
    set_owner_references: bool = True
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account_name: str = ""
    security_context: SecurityContext = SecurityContext()
    resources: Resources = Resources()
    runtime_class_name: str = ""
    host_users: bool | None = None
    ready_timeout_seconds: Annotated[float, Meta(gt=0)] = 30.0
    node_selector: dict[str, str] = {}
    tolerations: tuple[FREE_FORM, ...] = ()
    affinity: FREE_FORM = {}
    topology_spread_constraints: tuple[FREE_FORM, ...] = ()
    priority_class_name: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    egress_check: EgressCheck = EgressCheck()
    exec_protocol: Literal["auto", "v4"] = "auto"
    """`v4` where something between here and the node breaks the newer one (cri-dockerd on 1.36)."""


_CONFIG = msgspec.json.Decoder(ExecutorConfig)


def decoded(data: bytes) -> ExecutorConfig:
    """Raises `ConfigUnusable` with a sentence."""
    try:
        config = _CONFIG.decode(data)
    except msgspec.DecodeError as error:
        raise ConfigUnusable(str(error)) from error
    return _safe(config)


def _safe(config: ExecutorConfig) -> ExecutorConfig:
    if not config.security_context.read_only_root_filesystem:
        raise ConfigUnusable(
            "securityContext.readOnlyRootFilesystem=false: a program could change what the next one runs; set true"
        )
    for target in config.egress_check.targets:
        _refuse_name(target.host)
    if config.host_users is False and any(name in config.runtime_class_name.lower() for name in GVISOR):
        raise ConfigUnusable(
            f"hostUsers=false with runtimeClassName={config.runtime_class_name}: gVisor has no user namespaces of the"
            " kubelet (gvisor#13303) and each pod would be refused; leave hostUsers out"
        )
    if config.set_owner_references and not config.anchor:
        raise ConfigUnusable("setOwnerReferences=true needs anchor, the name of a ConfigMap in the pods' namespace")
    return config


def _refuse_name(host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        raise ConfigUnusable(
            f"egressCheck.targets: {host} is no IP address. Where a network policy holds, a pod can look up no name,"
            " and every name would count as out of reach; give the address"
        ) from None
