"""The programs that are run: in the service, and bare."""

from __future__ import annotations

import msgspec

PRINT = "print(1)"
GROUP_BY = """\
import pandas as pd
df = pd.DataFrame({"k": ["a", "b", "a", "c"] * 250, "v": range(1000)})
print(df.groupby("k").v.agg(["sum", "mean", "count"]))
"""
BUSY = "while True: pass"
SLEEP_SECONDS = 5
SLEEP = f"import time; time.sleep({SLEEP_SECONDS}); print(1)"


def request(code: str, *, timeout_ms: int = 10_000) -> bytes:
    """The body of a request to run it."""
    return msgspec.json.encode({"code": code, "timeout_ms": timeout_ms})
