"""What a benchmark says: one number a row, held against a bar that it must reach and an aim that it should."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

AIM, BAR, MISSED, UNJUDGED = "aim", "yes", "NO", ""
"""Is it met? Better than asked for, as asked for, not at all, nothing was asked for."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    value: float
    unit: str
    bar: float | None = None
    aim: float | None = None
    more_is_better: bool = False
    details: Mapping[str, object] = {}
    """The figures behind it, for the JSON file."""

    @property
    def met(self) -> str:
        if self.aim is not None and self._reaches(self.aim):
            return AIM
        if self.bar is None:
            return UNJUDGED
        return BAR if self._reaches(self.bar) else MISSED

    def _reaches(self, mark: float) -> bool:
        return self.value >= mark if self.more_is_better else self.value <= mark
