"""From the settings to a backend that may be started, or to the sentence that says why not."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from broker.setting_values import SettingsError
from broker.settings import Settings
from pool import Backend, SandboxStartFailed, Target
from pool.local import EnvironmentUnusable, IsolationMissing, find_environment, local_backend

LEAST_KEY_BYTES = 32
"""Of the sessions' secret. SECURITY: fewer can be tried out by whoever has seen the hash of a token."""


def create_backend(settings: Settings, *, preload: tuple[str, ...]) -> Backend:
    """Starts nothing yet. Raises `SettingsError` where nothing of the kind may be started here."""
    return _in_cluster(settings, preload) if settings.in_cluster else _on_this_machine(settings, preload)


def _in_cluster(settings: Settings, preload: tuple[str, ...]) -> Backend:
    # Only here: the cluster's client takes a second and 70 MiB to import.
    from pool.kube import ConfigUnusable, kube_backend

    try:
        return kube_backend(
            executor_file=Path(settings.executor_file or ""),
            preload=preload,
            limits=settings.limits,
            longest_run_seconds=-(-settings.max_exec_timeout_ms // 1000),
            replica=settings.pod_name or socket.gethostname(),
            known_listeners=_known_listeners(settings),
            kubeconfig=settings.kubeconfig,
            session_key=_session_key(settings.session_secret_file),
        )
    except ConfigUnusable as error:
        raise SettingsError(f"BROKER_EXECUTOR_FILE={settings.executor_file}: {error}.") from None


def _session_key(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"BROKER_SESSION_SECRET_FILE={path} cannot be read: {error.strerror}.") from None
    if len(key) < LEAST_KEY_BYTES:
        raise SettingsError(
            f"BROKER_SESSION_SECRET_FILE={path} has {len(key)} bytes, and needs {LEAST_KEY_BYTES} or more, at random:"
            " `openssl rand -hex 32` makes some."
        )
    return key


def _known_listeners(settings: Settings) -> tuple[Target, ...]:
    """Addresses where somebody is known to answer, so that the proof that none can be reached may fail."""
    found: list[Target] = []
    if settings.kubernetes_service_host:
        found.append(("tcp", _address(settings.kubernetes_service_host), settings.kubernetes_service_port))
    if settings.pod_ip:
        found.append(("tcp", settings.pod_ip, settings.port))
    return tuple(found)


def _address(host: str) -> str:
    """Looked up here: some platforms (AKS) name the API server, and a pod may look up nothing."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise SettingsError(f"KUBERNETES_SERVICE_HOST={host} has no address: {error.strerror}.") from None


def _on_this_machine(settings: Settings, preload: tuple[str, ...]) -> Backend:
    try:
        environment = find_environment(str(settings.programs_path))
        if settings.file_storage_url is None:
            _refuse_readable("FILE_STORAGE_DIR", settings.file_storage_dir, environment.trees)
        if settings.keys_file is not None:
            _refuse_readable("BROKER_KEYS_FILE", settings.keys_file, environment.trees)
        return local_backend(
            environment=environment,
            preload=preload,
            limits=settings.limits,
            reuses=settings.max_runs_per_sandbox > 1,
            allow_no_isolation=settings.allow_no_isolation,
        )
    except (EnvironmentUnusable, IsolationMissing) as error:
        raise SettingsError(str(error)) from None


def _refuse_readable(variable: str, path: str, trees: Sequence[str]) -> None:
    # SECURITY: what programs see of the machine, they can read; as an ordinary user whatever its mode is.
    stored = Path(path).resolve()
    for tree in ("/usr", *trees):
        if stored.is_relative_to(tree):
            raise SettingsError(
                f"{variable}={path} lies in {tree}, which programs can read. Name a place outside of it."
            )


def blamed_on_a_setting(error: BaseException, settings: Settings) -> BaseException:
    """The same error, or one that names the setting that an operator has to change."""
    if isinstance(error, SandboxStartFailed) and error.reason == "preload":
        return SettingsError(f"BROKER_PRELOAD={','.join(settings.preload)}: {error}.")
    return error
