"""The pool's judgements: numbers in, a decision out. Pure; chance comes in as a number from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pool.states import Retirement

BACKOFF_FIRST_SECONDS = 0.25
"""After one failed start. Smaller means a quicker recovery from a hiccup; larger means less churn."""

BACKOFF_MOST_SECONDS = 30.0
"""After many. Smaller means that a repaired cause is noticed sooner; larger spares an API server in trouble."""

YOUNG_SECONDS = 5.0
"""A sandbox that ends by itself so soon after its start counts as a failed start, so that a crash
loop meets the back-off. Larger means that a sandbox killed by chance delays the next ones."""

SMOOTHING = 0.2
"""The weight of the newest measurement. Larger follows a change sooner; smaller shrugs at a single slow start."""

RETRY_AFTER_LEAST_SECONDS = 1.0
"""What is said when nothing better is known. Smaller invites callers back before anything can have changed."""

QUOTED_CHARS = 256
"""At most so much of what a sandbox or a cluster said goes into a text for people."""


class Hold(msgspec.Struct, frozen=True):
    """Why no sandbox can be started at present. Goes away with the next one that starts."""

    reason: str
    """A word, as in `SandboxStartFailed`; a metric label."""
    text: str
    """A sentence for people."""
    until: float
    """When the next attempt is due, on the event loop's clock."""


def backoff_seconds(failures: int, jitter: float) -> float:
    """How long to wait after the n-th failure in a row: doubling, and half of it by chance."""
    whole = min(BACKOFF_MOST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(failures - 1, 30))
    return whole * (0.5 + jitter / 2)


def hold_after(failures: int, *, reason: str, text: str, now: float, jitter: float) -> Hold:
    times = "once" if failures == 1 else f"{failures} times in a row"
    delay = backoff_seconds(failures, jitter)
    said = f"no sandbox could be started ({reason}), {times}; next attempt after {delay:.2f} s: {text[:QUOTED_CHARS]}"
    return Hold(reason, said, now + delay)


def verdict(*, doubt: Retirement | None, runs: int, max_runs: int, is_current: bool) -> Retirement | None:
    """After a lease: why the sandbox is to be retired, or None: it may be cleaned and used again."""
    if doubt is not None:
        return doubt
    if runs >= max_runs:
        return Retirement.USED
    return None if is_current else Retirement.GENERATION


def smoothed(average: float | None, newest: float) -> float:
    return newest if average is None else average + SMOOTHING * (newest - average)


def start_wait_seconds(
    ahead: int, *, now: float, starting_since: Sequence[float], start_seconds: float, at_once: int
) -> float:
    """How long until the sandbox for someone with `ahead` others before them has started.

    `starting_since` tells when those under way began (or will, in a back-off), oldest first; `at_once` are
    started side by side, each taking `start_seconds`. Errs towards hope: who waits in vain has lost its
    seconds, who is refused in error has lost its answer.
    """
    rounds, place = divmod(ahead, at_once)
    began = starting_since[place] if place < len(starting_since) else now
    return max(0.0, began + (rounds + 1) * start_seconds - now)


def release_wait_seconds(ahead: int, *, lease_seconds: float, ages: Sequence[float]) -> float:
    """How long until enough leases have ended, when all that are allowed are held, for so long already.

    Programs' times have a heavy tail: one that has outlasted the mean is no average program that is about to end,
    but a long one, and with such a tail what is left is in proportion to the age. So each lease is taken to last
    as long again as it has, or the mean if it is younger. Leases that end each at its own rate end together at the
    sum of the rates: that is the wait for the first. Those that follow are new, and take the mean.
    """
    remaining = [max(lease_seconds, age) for age in ages]
    if min(remaining, default=0.0) <= 0.0:
        return 0.0  # nothing has been measured, and this one has only just begun
    return 1 / sum(1 / seconds for seconds in remaining) + ahead * lease_seconds / len(remaining)


def retry_after_seconds(expected_wait_seconds: float) -> float:
    return max(RETRY_AFTER_LEAST_SECONDS, expected_wait_seconds)


def probe_delay_seconds(probe_seconds: float, jitter: float) -> float:
    """Between 3/4 and 5/4 of the setting: sandboxes started together are not probed together for ever."""
    return probe_seconds * (0.75 + jitter / 2)
