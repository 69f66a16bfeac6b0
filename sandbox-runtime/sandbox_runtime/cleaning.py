"""Between two programs: wipe what the last one left, and prove that all is as it was before the first.

    Baseline() ── taken before the first program
    Baseline.restore() ── wipes, compares, and returns what is not as it was

SECURITY: whatever is not compared here is what a program can leave for the next one. `tests/hostile/test_recycling.py`
seeds one leak of each kind; `tests/integration/test_residue.py` looks for others over many runs.

Not compared, for nobody inside can set them back: what the kernel only counts up (the next pid and inode, the zygote's
CPU time and page faults), and the time of the last cleaning, which shows in the places' ctime and in the times of what
else a program may touch (`stamps.py`); and the times of files in /proc that the kernel forgot for want of memory: each
has that of the next look, so a program that fills all of its memory may choose some. Nor are keyrings: all processes of
a uid on the machine share them, so they come and go; to programs their calls are refused (seccomp_rules).
"""

from __future__ import annotations

import time

from sandbox_runtime import facts, places, stamps

WIPE_SECONDS = 5.0
"""20 000 files take 0.3 s. A sandbox that takes longer is not worth it: a new one is quicker."""


class Baseline:
    """What the sandbox was like before its first program."""

    def __init__(self, font_lists: str) -> None:
        self._font_lists = font_lists
        self._places = {place: places.State(place) for place in places.WRITABLE}
        self._reader = facts.Facts(places.WRITABLE)
        self._facts = self._reader.now()
        self._stamped = stamps.settable([*places.WRITABLE, *self._reader.others])
        self._turn_back()  # the first program finds what the next ones find

    def restore(self) -> tuple[list[str], dict[str, int]]:
        """Findings, in words that a program could not choose, and the evidence in numbers. No guest lives."""
        findings, wiped = self._wipe(time.monotonic() + WIPE_SECONDS)
        if not findings:  # else there may be no end to what would be compared, and one is enough
            findings = self._put_back() or self._compare()
        compared = len(self._facts) + len(places.COMPARED) * len(self._places)
        return findings, {"wiped": wiped, "places": len(self._places), "facts": compared}

    def _wipe(self, until: float) -> tuple[list[str], int]:
        findings: list[str] = []
        wiped = 0
        for place in self._places:
            try:
                wiped += places.wipe(place, until)
            except OSError as error:
                findings.append(f"{place} could not be wiped: {error.strerror or 'there was no end to it'}")
        return findings, wiped

    def _put_back(self) -> list[str]:
        try:
            for place, before in self._places.items():
                places.restore(place, before)
            # SECURITY: after the above: what is made in a folder inherits its access list and its flags.
            places.lay_out_tmp(self._font_lists)
            self._turn_back()
        except OSError as error:
            return [f"the places could not be laid out: {error.strerror}"]
        return []

    def _compare(self) -> list[str]:
        try:
            findings = self._differences()
            self._turn_back()
            stamps.stamp(self._stamped)
        except OSError as error:
            return [f"the places could not be compared: {error.strerror}"]
        return findings

    def _turn_back(self) -> None:
        for place, before in self._places.items():
            places.turn_back(place, before)

    def _differences(self) -> list[str]:
        now = self._reader.now(self._facts)
        found = [f"{name} is not as it was" for name, value in self._facts.items() if now[name] != value]
        for place, before in self._places.items():
            found += [f"{name} of {place} is not as it was" for name in places.State(place).differences(before)]
        return found
