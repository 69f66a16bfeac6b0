"""Our copy of a set of pods, kept by a LIST and the WATCH that goes on from it. Pure: bytes in, changes out.

    LIST (consistent, in pages) ── version ──▶ WATCH from it ── ADDED MODIFIED DELETED BOOKMARK … ──▶ its end
      ▲                                          ▲                                                     │
      └── 410 Gone: that version is forgotten ───┴──────── the version is kept over any end ────────────┘

A pod is known by its uid: names come again. Pods that vanished while nobody watched show as deleted at the next list.
Source: client-go `tools/cache/reflector.go`; kopf `watching.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pool.kube.pods import Pod

GONE = 410  # RFC 9110


class Expired(Exception):
    """The server has forgotten the version that we would go on from: list again."""


class WatchFailed(Exception):
    """The server ended the watch with an error: wait a little, and go on from the same version."""


class Change(msgspec.Struct, frozen=True):
    """One pod, as it was and as it is."""

    old: Pod | None
    new: Pod | None
    """None: it is gone."""


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    metadata: _ListMetadata
    items: list[Pod] = []


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct):
    class Metadata(msgspec.Struct, rename="camel"):
        resource_version: str

    metadata: Metadata


class _Failure(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


_PAGE, _EVENT, _POD = msgspec.json.Decoder(Page), msgspec.json.Decoder(_Event), msgspec.json.Decoder(Pod)
_VERSIONED, _FAILURE = msgspec.json.Decoder(_Versioned), msgspec.json.Decoder(_Failure)


def page(body: bytes) -> Page:
    """One page of a LIST; its `continue_` asks for the next. Raises `msgspec.DecodeError`."""
    return _PAGE.decode(body)


class Mirror:
    """What is known of the pods, and from where to watch on."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        """By uid."""
        self.version: str | None = None
        """To watch from; None: list first."""

    def listed(self, pages: Iterable[Page]) -> list[Change]:
        """Take a whole LIST, and tell what is different from before."""
        found: dict[str, Pod] = {}
        for each in pages:
            found |= {pod.metadata.uid: pod for pod in each.items}
            self.version = each.metadata.resource_version
        gone = [Change(pod, None) for uid, pod in self.pods.items() if uid not in found]
        changes = [Change(self.pods.get(uid), pod) for uid, pod in found.items() if self._is_news(pod)]
        self.pods = found
        return gone + changes

    def _is_news(self, pod: Pod) -> bool:
        known = self.pods.get(pod.metadata.uid)
        return known is None or known.metadata.resource_version != pod.metadata.resource_version

    def heard(self, line: bytes) -> Change | None:
        """Take one line of a WATCH; None where no pod changed.

        Raises `Expired`, `WatchFailed` or `msgspec.DecodeError`.
        """
        event = _EVENT.decode(line)
        if event.type == "ERROR":
            self._fail(_FAILURE.decode(event.object))
        if event.type == "BOOKMARK":
            self.version = _VERSIONED.decode(event.object).metadata.resource_version
            return None
        pod = _POD.decode(event.object)
        self.version = pod.metadata.resource_version
        return self._gone(pod) if event.type == "DELETED" else self._seen(pod)

    def _fail(self, failure: _Failure) -> None:
        if failure.code == GONE:
            self.version = None
            raise Expired(failure.message)
        raise WatchFailed(f"{failure.code} {failure.reason}: {failure.message}")

    def _seen(self, pod: Pod) -> Change:
        old, self.pods[pod.metadata.uid] = self.pods.get(pod.metadata.uid), pod
        return Change(old, pod)

    def _gone(self, pod: Pod) -> Change | None:
        old = self.pods.pop(pod.metadata.uid, None)
        return Change(old, None) if old else None
