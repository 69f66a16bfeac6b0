"""`code-interpreter doctor`: each protection, there or missing, what that means, how to get it."""

from __future__ import annotations

import textwrap

import msgspec

from broker.settings import Settings
from pool.local import EnvironmentUnusable, Protection, find_environment, level, libraries, probe, refusal

MEANING_CHARS = 100


class Report(msgspec.Struct, frozen=True, kw_only=True):
    level: str
    """`full`, `reduced` or `none`: what `/health` would say."""
    serves: bool
    protections: list[Protection]

    def json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def table(self) -> str:
        width = max(len(each.name) for each in self.protections)
        lines = [line for each in self.protections for line in _lines(each, width)]
        verdict = "serve starts" if self.serves else "serve refuses to start"
        return "\n".join([*lines, "", f"Isolation: {self.level}; {verdict}."])


def examine(settings: Settings) -> Report:
    """Look at this machine, by trying."""
    found = probe()
    environment = _environment(settings)
    serves = all(each.present or not each.needed for each in environment)
    serves = serves and refusal(found, accepted=settings.allow_no_isolation) is None
    return Report(level=level(found).level, serves=serves, protections=[*found, *environment])


def _environment(settings: Settings) -> list[Protection]:
    try:
        python = find_environment(str(settings.programs_path)).python
    except EnvironmentUnusable as error:
        return [_programs(present=False, remedy=str(error))]
    return [_programs(present=True, remedy=""), libraries(python)]


def _programs(*, present: bool, remedy: str) -> Protection:
    meaning = "Programs import from an environment of their own and see nothing of the service's."
    return Protection(name="environment for programs", present=present, needed=True, meaning=meaning, remedy=remedy)


def _lines(each: Protection, width: int) -> list[str]:
    state = "there  " if each.present else "MISSING" if each.needed else "missing"
    first, *more = textwrap.wrap(each.meaning, MEANING_CHARS) or [""]
    indent = " " * (width + len(state) + 4)
    remedy = [] if each.present else textwrap.wrap(f"to get it: {each.remedy}", MEANING_CHARS)
    return [f"{each.name:<{width}}  {state}  {first}", *(indent + line for line in (*more, *remedy))]
