"""From the settings to a backend that may be started, or to the sentence that says why not."""

from __future__ import annotations

from broker.setting_values import SettingsError
from broker.settings import Settings
from pool import Backend
from pool.local import EnvironmentUnusable, Protection, local_backend, probe


def create_backend(settings: Settings, *, preload: tuple[str, ...]) -> Backend:
    """Starts nothing yet. Raises `SettingsError` where nothing of the kind may be started here."""
    refuse_without_isolation(probe(), allowed=settings.allow_no_isolation)
    try:
        return local_backend(
            programs=settings.programs_path,
            preload=preload,
            limits=settings.limits,
            allow_no_isolation=settings.allow_no_isolation,
        )
    except EnvironmentUnusable as error:
        raise SettingsError(str(error)) from None


def missing(protections: list[Protection]) -> list[Protection]:
    """What must be there, and is not."""
    return [each for each in protections if each.needed and not each.present]


def refuse_without_isolation(protections: list[Protection], *, allowed: bool) -> None:
    lacking = missing(protections)
    if lacking and not allowed:
        names = "; ".join(f"{each.name} ({each.remedy})" for each in lacking)
        raise SettingsError(
            f"Programs cannot be isolated here. Missing: {names}. `code-interpreter doctor` says more."
            " BROKER_ALLOW_NO_ISOLATION=true serves all the same: programs can then do whatever this user can."
        )
