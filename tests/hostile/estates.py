"""What a pool owns when nothing runs in it: of processes (`aftermath.py`), or of pods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pool import Snapshot
from pool.kube import KubeBackend
from tests.hostile.aftermath import Estate, opened, until
from tests.places import LOCAL, Place
from tests.sandboxes import Sandboxes

PODS_SETTLE_SECONDS = 60.0
"""A pod that is deleted is gone after a second or two, one whose guests are a bomb's on a busy node after more."""

AT_REST = {"ready", "starting", "retiring"}


class PodEstate:
    """A pool of pods. Replacing one takes seconds: so between two tests one may be on its way out, or in."""

    def __init__(self, boxes: Sandboxes) -> None:
        self.boxes = boxes

    def snapshot(self) -> Snapshot:
        return self.boxes.portal.call(self.boxes.pool.snapshot)

    def leftovers(self) -> list[str]:
        """What is there and should not be. That a pod that is used again is clean is proved inside, each time."""
        until(lambda: not self._unsettled())
        return [*self._unsettled(), *self._strangers()]

    def everything_left(self) -> list[str]:
        """The same when the last pod has been replaced: all are ready, and none is a stranger to the pool."""
        until(lambda: not self._surplus(), PODS_SETTLE_SECONDS)
        return self._surplus()

    def _unsettled(self) -> list[str]:
        busy = {state: count for state, count in self.snapshot().slots.items() if count and state not in AT_REST}
        return [f"the pool has not settled: {busy}"] if busy else []

    def _strangers(self) -> list[str]:
        """Pods of ours, as the API server tells, that no slot knows."""
        backend = self.boxes.pool.backend
        assert isinstance(backend, KubeBackend)
        owned = [pod for pod in list(backend._reflector.mirror.pods.values()) if pod.owner == backend.owner]
        slots = sum(self.snapshot().slots.values())
        return [f"{len(owned)} pods for {slots} slots"] if len(owned) > slots else []

    def _surplus(self) -> list[str]:
        snapshot = self.snapshot()
        # One more than wanted may be ready: the next probe will find that out.
        is_full = sum(snapshot.slots.values()) == snapshot.slots["ready"] >= snapshot.size
        return [*([] if is_full else [f"the pool is not full: {snapshot}"]), *self._strangers()]


AnyEstate = Estate | PodEstate


@contextmanager
def estate_of(place: Place, **planned: Any) -> Iterator[AnyEstate]:
    """A pool planned as by `Place.sandboxes`, and after everything that was done with it the proof that it is whole."""
    if place.name == LOCAL:
        with opened(**planned) as estate:
            yield estate
        return
    with place.sandboxes(**planned) as boxes:
        pods = PodEstate(boxes)
        yield pods
        assert pods.everything_left() == []
