"""When a launcher and its templates are replaced, and for how long they are waited for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class UpkeepPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers in, a decision out; the times are the event loop's."""

    order_seconds: float = 10.0
    """An order that has no answer by then means that the launcher hangs, and costs all its sandboxes. Smaller
    takes a machine's hiccup for it (an answer takes 10 ms); larger leaves the pool without new sandboxes longer."""

    load_seconds: float = 60.0
    """A template that has not loaded everything by then is given up. Smaller refuses slow disks (pandas without
    .pyc files takes 5 s on a fast one); larger lets a module that hangs hold up the start."""

    renew_forks: int = 1000
    renew_seconds: float = 600.0
    """Sandboxes forked from one template share its hash seed and memory layout. Renewed sooner, less can be
    learned from one about the next; each renewal costs some 2 s of one core."""

    restarts: int = 5
    window_seconds: float = 60.0
    """At most so many launchers are started in such a time. More would load a machine on which none can live;
    fewer would leave the service down after a few unlucky deaths."""

    end_seconds: float = 5.0
    """For the keeper to end everything and to remove the cgroups, for which it takes 2 s at most. After that it is
    killed, and all below it: smaller leaves cgroups to the next start, larger makes a hung one hold up our end."""

    first_pause_seconds: float = 0.5
    """Before the second attempt in a window, doubling from there: the first death is taken for chance."""

    def renewal_due(self, forks: int, age_seconds: float) -> bool:
        return forks >= self.renew_forks or age_seconds >= self.renew_seconds

    def renewal_pause_seconds(self, failures: int) -> float:
        """How long to go on with the old template after the n-th failure in a row to make a new one."""
        return min(self.renew_seconds, self.first_pause_seconds * 2.0 ** min(failures, 30))

    def restart_pause_seconds(self, earlier: Sequence[float], now: float) -> float:
        """How long to wait before another launcher is started; `earlier` are the times of such starts, oldest first."""
        recent = self.recent(earlier, now)
        if len(recent) >= self.restarts:
            return recent[-self.restarts] + self.window_seconds - now
        return self.first_pause_seconds * 2.0 ** (len(recent) - 1) if recent else 0.0

    def recent(self, earlier: Sequence[float], now: float) -> list[float]:
        """Those that still count."""
        return [at for at in earlier if now - at < self.window_seconds]
