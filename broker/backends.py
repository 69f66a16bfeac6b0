"""From the settings to a backend that may be started, or to the sentence that says why not."""

from __future__ import annotations

from pathlib import Path

from broker.setting_values import SettingsError
from broker.settings import Settings
from pool import Backend, SandboxStartFailed
from pool.local import EnvironmentUnusable, IsolationMissing, find_environment, local_backend


def create_backend(settings: Settings, *, preload: tuple[str, ...]) -> Backend:
    """Starts nothing yet. Raises `SettingsError` where nothing of the kind may be started here."""
    try:
        _refuse_readable_store(settings)
        return local_backend(
            programs=settings.programs_path,
            preload=preload,
            limits=settings.limits,
            reuses=settings.max_runs_per_sandbox > 1,
            allow_no_isolation=settings.allow_no_isolation,
        )
    except (EnvironmentUnusable, IsolationMissing) as error:
        raise SettingsError(str(error)) from None


def _refuse_readable_store(settings: Settings) -> None:
    # SECURITY: what programs see of the machine, they can read; as an ordinary user whatever its mode is.
    stored = Path(settings.file_storage_dir).resolve()
    for tree in ("/usr", *find_environment(str(settings.programs_path)).trees):
        if settings.file_storage_url is None and stored.is_relative_to(tree):
            raise SettingsError(
                f"FILE_STORAGE_DIR={settings.file_storage_dir} lies in {tree}, which programs can read. Name a folder"
                " outside of it."
            )


def blamed_on_a_setting(error: BaseException, settings: Settings) -> BaseException:
    """The same error, or one that names the setting that an operator has to change."""
    if isinstance(error, SandboxStartFailed) and error.reason == "preload":
        return SettingsError(f"BROKER_PRELOAD={','.join(settings.preload)}: {error}.")
    return error
