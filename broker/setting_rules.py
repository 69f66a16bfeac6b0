"""What no single setting can show: which go together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.setting_values import SettingsError, nearest_name

if TYPE_CHECKING:
    from broker.settings import Settings

STORE_SCHEMES = ("s3", "gs", "az")


def check_together(settings: Settings) -> None:
    """Raises `SettingsError`."""
    ours, onyx = settings.max_in_flight, settings.max_concurrent_executions
    if ours and onyx and ours != onyx:
        raise SettingsError(
            f"BROKER_MAX_IN_FLIGHT={ours} and MAX_CONCURRENT_EXECUTIONS={onyx} are one setting: give one of them."
        )
    queue = settings.execution_queue_timeout_sec
    if settings.shared_seconds <= queue:
        raise SettingsError(
            f"BROKER_OVERHEAD_SECONDS={settings.shared_seconds:g} must be more than EXECUTION_QUEUE_TIMEOUT_SEC="
            f"{queue:g}, or a program that waited could not be staged; the nearest good value is {queue + 1:g}."
        )
    if settings.max_runs_per_sandbox > 1 and settings.reuse_scope is None:
        raise SettingsError(
            f"BROKER_MAX_RUNS_PER_SANDBOX={settings.max_runs_per_sandbox} needs BROKER_REUSE_SCOPE:"
            " set it to any if all who can call this service trust each other, to tenant if"
            " not, or leave it at 1 run a sandbox."
        )
    if settings.in_cluster and settings.executor_file is None:
        raise SettingsError(
            "EXECUTOR_BACKEND=kubernetes needs BROKER_EXECUTOR_FILE, which says how pods are to be: the chart has it."
        )
    if settings.session_secret_file is not None and not settings.in_cluster:
        raise SettingsError(
            f"BROKER_SESSION_SECRET_FILE={settings.session_secret_file} needs EXECUTOR_BACKEND=kubernetes: a session of"
            " one machine has one service."
        )
    if settings.playground == "on" and settings.keys_file is not None:
        raise SettingsError(
            "BROKER_PLAYGROUND=on and BROKER_KEYS_FILE do not go together: a browser sends no key when it opens a page."
            " Leave the playground to a service on a loopback address."
        )
    _check_tenants(settings)
    _check_store_url(settings.file_storage_url)


def _check_tenants(settings: Settings) -> None:
    # A limit that nobody is held to is a security bug: whoever sets one counts on it.
    needing = ("concurrency", "runs_per_minute", "queue", "file_quota_mb", "sessions")
    for name in needing if settings.keys_file is None else ():
        if (value := getattr(settings, f"tenant_{name}")) is not None:
            variable = f"BROKER_TENANT_{name.upper()}"
            raise SettingsError(f"{variable}={value} needs BROKER_KEYS_FILE: without keys nobody is a tenant.")


def _check_store_url(url: str | None) -> None:
    scheme, separator, rest = (url or "s3://bucket").partition("://")
    if scheme not in STORE_SCHEMES or not separator or not rest:
        near = nearest_name(scheme, STORE_SCHEMES)
        raise SettingsError(
            f"BROKER_FILE_STORAGE_URL={url} is no object store; the nearest valid form is {near}://bucket/prefix."
        )
