"""From the settings to a backend that may be started, or to the sentence that says why not."""

from __future__ import annotations

from pathlib import Path

from broker.setting_values import SettingsError
from broker.settings import Settings
from pool import Backend, SandboxStartFailed
from pool.local import EnvironmentUnusable, IsolationMissing, local_backend


def create_backend(settings: Settings, *, preload: tuple[str, ...]) -> Backend:
    """Starts nothing yet. Raises `SettingsError` where nothing of the kind may be started here."""
    # SECURITY: programs can read their whole environment, and would read everybody's files there.
    stored = Path(settings.file_storage_dir).resolve()
    if settings.programs_path.resolve() in (stored, *stored.parents):
        raise SettingsError(
            f"FILE_STORAGE_DIR={settings.file_storage_dir} lies in BROKER_PROGRAMS={settings.programs_path}, which"
            " programs can read. Name a folder outside of it."
        )
    try:
        return local_backend(
            programs=settings.programs_path,
            preload=preload,
            limits=settings.limits,
            allow_no_isolation=settings.allow_no_isolation,
        )
    except (EnvironmentUnusable, IsolationMissing) as error:
        raise SettingsError(str(error)) from None


def blamed_on_a_setting(error: BaseException, settings: Settings) -> BaseException:
    """The same error, or one that names the setting that an operator has to change."""
    if isinstance(error, SandboxStartFailed) and error.reason == "preload":
        return SettingsError(f"BROKER_PRELOAD={','.join(settings.preload)}: {error}.")
    return error
