"""A token bucket: so many a minute in the long run, and a burst of ten seconds' worth at once. Pure.

The burst is what lets an agent send the calls of one turn together. Longer lets more come at once after a silence;
shorter refuses clients that were within their rate.
"""

from __future__ import annotations

import math

import msgspec

BURST_SECONDS = 10.0


class Bucket(msgspec.Struct, frozen=True):
    """How many tokens there were, and when. `at` is read from any clock that does not go back."""

    tokens: float
    at: float


def capacity(per_minute: float) -> float:
    """Tokens that a full bucket has; always enough for one."""
    return max(1.0, math.floor(per_minute * BURST_SECONDS / 60))


def take(bucket: Bucket | None, *, per_minute: float, now: float) -> tuple[Bucket, float]:
    """The bucket after one was taken, and 0; or, where there is none, after none was taken, and the seconds until.

    None is a bucket that nothing has been taken from. A rate that has changed since holds from now on.
    """
    most = capacity(per_minute)
    since = most if bucket is None else bucket.tokens + max(0.0, now - bucket.at) * per_minute / 60
    tokens = min(most, since)
    if tokens >= 1.0:
        return Bucket(tokens - 1.0, now), 0.0
    return Bucket(tokens, now), (1.0 - tokens) * 60 / per_minute
