"""Every setting, once. The only reader of the environment; everybody else is handed values.

Rule 1: names that Onyx's code interpreter has keep its names; ours start with BROKER_.
Rule 2: an unknown BROKER_ name or an impossible value stops the start. A limit that is silently
        ignored is a security bug.
Rule 3: an empty variable is an absent one, as compose files and charts write them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker import setting_pools
from broker.setting_rules import check_together
from broker.setting_values import SettingsError, nearest_name, parse
from pool import PoolSettings, RunLimits
from pool.local import USUAL_PRELOAD

PREFIX = "BROKER_"
_ONYX = """
    HOST PORT LOG_LEVEL LOG_FORMAT EXECUTOR_BACKEND MAX_EXEC_TIMEOUT_MS MAX_OUTPUT_BYTES MEMORY_LIMIT_MB FILE_TTL_SEC
    MAX_FILE_SIZE_MB FILE_STORAGE_DIR MAX_CONCURRENT_EXECUTIONS EXECUTION_QUEUE_TIMEOUT_SEC
"""
ONYX = frozenset(_ONYX.split())
GIVEN = frozenset({"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"})
"""By the kubelet, to every container."""
MIB = 2**20
MOST_MIB = 2**20
"""A tebibyte: no machine of today gives more to one program, and a slip of the finger is above it."""
DAY_MS = 86_400_000
YEAR_SECONDS = 31_536_000
KUBE_SIZE = 4
SECONDS_BESIDE_LONGEST = 9.0
"""Beside the longest run that is allowed, no answer takes longer than this once its request has come, or than
`overhead_seconds` where that is more: clients give up after 70 s and the longest default run takes 60."""
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def about(text: str, *, ge: float | None = None, le: float | None = None) -> Meta:
    """Bounds only where there is always a value: of `int | None` they belong to the `int`."""
    return Meta(description=text, ge=ge, le=le)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """As the operator set them. Each text names the unit, how to switch it off, and why the default is what it is."""

    host: Annotated[
        str,
        about("Address to listen on. A loopback address answers only local names and origins; images set `0.0.0.0`."),
    ] = "127.0.0.1"
    port: Annotated[int, about("TCP port; 0 takes a free one and prints it.", ge=0, le=65535)] = 8000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        about("What is logged; `debug` adds `/health`, `/ready` and `/metrics`."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "plain"],
        about("`json` for collectors, `plain` for people; `auto` is plain on a terminal and JSON elsewhere."),
    ] = "auto"
    executor_backend: Annotated[
        Literal["local", "kubernetes"],
        about("Where sandboxes live. `local`: namespaced processes on this machine. `kubernetes`: pods of a cluster."),
    ] = "local"
    max_exec_timeout_ms: Annotated[
        int,
        about(
            "Milliseconds; a request for more is refused. Onyx always asks for 60 000: less breaks it.", ge=1, le=DAY_MS
        ),
    ] = 60_000
    max_output_bytes: Annotated[
        int,
        about(
            "Bytes kept of stdout, and of stderr; the rest is dropped and the program goes on, up to 64 MiB of either,"
            " where it is ended (`output_limit`)."
            " A batch answer holds both in memory.",
            ge=1024,
            le=32 * MIB,
        ),
    ] = 1_000_000
    memory_limit_mb: Annotated[
        int,
        about(
            "MiB a program may use, beside its files. 256 is enough for pandas on some ten megabytes.",
            ge=16,
            le=MOST_MIB,
        ),
    ] = 256
    file_ttl_sec: Annotated[
        int,
        about(
            "Seconds until a stored file is gone. Clients never delete inputs, and reuse them for minutes.",
            ge=1,
            le=10 * YEAR_SECONDS,
        ),
    ] = 3600
    max_file_size_mb: Annotated[
        int,
        about(
            "MiB of one upload, and of one file that a program writes. Onyx sends at most 100 MiB a call.",
            ge=1,
            le=MOST_MIB,
        ),
    ] = 100
    file_storage_dir: Annotated[
        str, about("Folder for files, made with mode 0700. Unused when `BROKER_FILE_STORAGE_URL` is set.")
    ] = str(Path(tempfile.gettempdir()) / f"code-interpreter-files-{os.getuid()}")
    max_concurrent_executions: Annotated[
        Annotated[int, Meta(ge=1)] | None, about("Onyx's name for `BROKER_MAX_IN_FLIGHT`; both set must be equal.")
    ] = None
    execution_queue_timeout_sec: Annotated[
        float, about("Seconds a run waits for a sandbox before it is a 503; a new session 8 or more.", ge=0, le=600)
    ] = 8.0

    pool_size: Annotated[
        Annotated[int, Meta(ge=1, le=500)] | None,
        about("Sandboxes kept warm, about 6 MiB each. Unset: twice the cores, at most 8; in a cluster 4."),
    ] = None
    max_in_flight: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        about("Programs running at once. Unset: 8 for each of the pool's size, at least 64."),
    ] = None
    queue: Annotated[
        int,
        about("Requests that may wait for a sandbox; one more is answered 429. 0 refuses at once.", ge=0, le=100_000),
    ] = 256
    overhead_seconds: Annotated[
        Annotated[float, Meta(ge=1)] | None,
        about(
            "Seconds that queue, staging and collection share beside `timeout_ms`. Unset: the queue timeout and 1,"
            " so that the longest default run answers within the 70 s that clients wait. A shorter run that gets its"
            " sandbox late has 3 s from there, or this where it is set to less."
        ),
    ] = None
    leave_seconds: Annotated[
        float,
        about(
            "Seconds after SIGTERM for which whoever still asks is served, and sent elsewhere by a closed connection. 0"
            " refuses at once; behind a load balancer as long as it takes to notice, 10 in the chart.",
            ge=0,
            le=300,
        ),
    ] = 0.0
    grace_seconds: Annotated[
        float,
        about(
            "Seconds that running programs get after SIGTERM; 0 ends them. 70 outlasts the longest default run.", ge=0
        ),
    ] = 70.0
    max_runs_per_sandbox: Annotated[
        int,
        about(
            "Programs a sandbox runs before it is replaced, wiped and proved as it was between two. 1 uses none twice;"
            " at most 20 is advised: they share a hash seed and a layout of memory.",
            ge=1,
            le=1000,
        ),
    ] = 1
    reuse_scope: Annotated[
        Literal["any", "tenant"] | None,
        about(
            "Whose programs may follow each other in a sandbox; needed for more than 1 run. `any`: all who can call"
            " this service trust each other. `tenant`: those of one tenant; without keys everyone is one."
        ),
    ] = None
    preload: Annotated[
        tuple[str, ...],
        about(
            "Modules imported before a request comes, by comma; `none` for none. Each costs memory once, not per run."
        ),
    ] = USUAL_PRELOAD
    programs: Annotated[
        str | None, about("Virtual environment that programs import from. Unset: `.programs` beside the source.")
    ] = None
    workspace_mb: Annotated[
        int,
        about("MiB of files in `/workspace`, which are memory of the machine while a run lasts.", ge=1, le=MOST_MIB),
    ] = 100
    max_sessions: Annotated[
        int,
        about(
            "Sessions open at once, beside the programs that run, on all replicas that share them; one more is answered"
            " 429. 0 opens none, and `/health` then names the API level before sessions.",
            ge=0,
            le=10_000,
        ),
    ] = 16
    session_workspace_mb: Annotated[
        int,
        about(
            "MiB of files in a session's workspace, which are memory. Agents unpack repositories of up to 500 MiB.",
            ge=1,
            le=MOST_MIB,
        ),
    ] = 600
    session_secret_file: Annotated[
        str | None,
        about("File of 32 random bytes or more, by which replicas serve each other's sessions. Unset: each its own."),
    ] = None
    tmp_mb: Annotated[int, about("MiB of files in `/tmp`, beside the workspace.", ge=1, le=MOST_MIB)] = 64
    processes: Annotated[
        int,
        about("Processes and threads of one program. 256 lets thread pools be, and ends fork bombs.", ge=1, le=100_000),
    ] = 256
    open_files: Annotated[int, about("Open files of one process; 1024 is what Linux gives.", ge=16, le=1_000_000)] = (
        1024
    )
    startup_concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        about("Sandboxes started at once. More fill a drained pool sooner, and take more from programs. Unset: 2; 4."),
    ] = None
    executor_file: Annotated[
        str | None,
        about("How pods are to be, as JSON: the chart writes it (`executor.json`). Needed for `kubernetes`."),
    ] = None
    kubeconfig: Annotated[
        str | None,
        about("File that leads to the cluster, for a service outside of it. Unset: the pod's own account."),
    ] = None
    pod_name: Annotated[
        str | None, about("This service's own pod, which its sandboxes are labelled with. Unset: the host's name.")
    ] = None
    pod_ip: Annotated[
        str | None, about("This service's own address: one of those that no sandbox may reach. The chart sets it.")
    ] = None
    kubernetes_service_host: Annotated[
        str | None, about("The API server's address, as each container is told it: no sandbox may reach it.")
    ] = None
    kubernetes_service_port: Annotated[int, about("The port of that address.", ge=1, le=65535)] = 443
    allow_no_isolation: Annotated[
        bool,
        about(
            "`true` serves where the network namespace, the IPC namespace or seccomp is missing, at level `none`:"
            " for machines that run only your own programs. Nothing accepts to be without the other needed protections."
        ),
    ] = False
    file_quota_mb: Annotated[
        int,
        about(
            "MiB of all files and outcomes, each counted 64 KiB larger; more is answered 507. 0: none.", ge=0, le=2**40
        ),
    ] = 10_240
    idempotency_ttl_seconds: Annotated[
        int,
        about(
            "Seconds for which an `Idempotency-Key` stands for its run and its stored outcome; never less than the"
            " longest run takes. Outcomes count as files do: at the file quota new keys are refused (507).",
            ge=1,
            le=YEAR_SECONDS,
        ),
    ] = 3600
    file_storage_url: Annotated[
        str | None,
        about(
            "`s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix` in place of a folder."
            " Credentials come from the provider's own variables. Needed for more than one replica."
        ),
    ] = None
    cors_origins: Annotated[
        tuple[str, ...], about("Web origins that may call from a browser, by comma; `*` for all. Unset: none.")
    ] = ()
    playground: Annotated[
        Literal["auto", "on", "off"],
        about(
            "A page at `/` on which a person runs programs in the browser. `auto`: where `HOST` is a loopback address."
            " `off`: `/` is answered 404."
        ),
    ] = "auto"
    allowed_hosts: Annotated[
        tuple[str, ...],
        about("Further `Host` names to answer to, by comma. Unset: local names on a loopback address, elsewhere any."),
    ] = ()

    keys_file: Annotated[
        str | None,
        about(
            "File of API keys and tenants' limits, read again when it changes. `code-interpreter keys` makes its lines."
            " Unset: nobody is asked for a key."
        ),
    ] = None
    metrics_public: Annotated[
        bool, about("`true` answers `/metrics` without a key; `/health` and `/ready` never need one.")
    ] = False
    tenant_concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        about("Runs of one tenant at once; more wait. This and the next four need keys, whose file can set others."),
    ] = None
    tenant_runs_per_minute: Annotated[
        Annotated[float, Meta(ge=0.1)] | None,
        about(
            "Programs, session calls and new sessions of one tenant; ten seconds' worth at once, more are answered 429."
            " Unset: no limit."
        ),
    ] = None
    tenant_queue: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        about("Requests of one tenant that may wait; more are answered 429. Unset: half of `BROKER_QUEUE`."),
    ] = None
    tenant_file_quota_mb: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        about(
            "MiB of one tenant's files and outcomes; more is answered 507. Unset: only `BROKER_FILE_QUOTA_MB` holds."
        ),
    ] = None
    tenant_sessions: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        about("Sessions of one tenant; one more is answered 429. Unset: half of `BROKER_MAX_SESSIONS`."),
    ] = None

    @property
    def size(self) -> int:
        return self.pool_size or (KUBE_SIZE if self.in_cluster else min(8, 2 * _CORES))

    @property
    def in_cluster(self) -> bool:
        return self.executor_backend == "kubernetes"

    @property
    def in_flight(self) -> int:
        return self.max_in_flight or self.max_concurrent_executions or max(64, 8 * self.size)

    @property
    def shared_seconds(self) -> float:
        """What queue, staging and collection share."""
        return self.overhead_seconds or self.execution_queue_timeout_sec + 1

    @property
    def longest_seconds(self) -> float:
        """From a request to its answer, whatever it asks for."""
        return self.max_exec_timeout_ms / 1000 + max(self.shared_seconds, SECONDS_BESIDE_LONGEST)

    @property
    def file_size_bytes(self) -> int:
        return self.max_file_size_mb * MIB

    @property
    def file_quota_bytes(self) -> int:
        return self.file_quota_mb * MIB

    @property
    def programs_path(self) -> Path:
        return Path(self.programs) if self.programs else Path(__file__).resolve().parent.parent / ".programs"

    @property
    def pool(self) -> PoolSettings:
        return setting_pools.of_runs(self)

    @property
    def session_pool(self) -> PoolSettings:
        return setting_pools.of_sessions(self)

    @property
    def session_limits(self) -> RunLimits:
        return setting_pools.limits_of_sessions(self)

    @property
    def limits(self) -> RunLimits:
        return RunLimits(
            memory_bytes=self.memory_limit_mb * MIB,
            output_bytes=self.max_output_bytes,
            processes=self.processes,
            open_files=self.open_files,
            file_bytes=self.file_size_bytes,
            workspace_bytes=self.workspace_mb * MIB,
            tmp_bytes=self.tmp_mb * MIB,
        )


FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def variable(field: str) -> str:
    """The environment variable of a field."""
    return field.upper() if field.upper() in ONYX | GIVEN else f"{PREFIX}{field.upper()}"


VARIABLES = {variable(name): name for name in FIELDS}


def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
    """Read, check and return the settings. Raises `SettingsError` with a sentence for the operator."""
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    given = {name: environ[variable] for variable, name in VARIABLES.items() if environ.get(variable, "").strip()}
    values = {name: parse(variable(name), text, FIELDS[name].type) for name, text in given.items()}
    settings = Settings(**values)
    check_together(settings)
    return settings


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            raise SettingsError(f"{name} is no setting; the nearest one is {nearest_name(name, VARIABLES)}.")
