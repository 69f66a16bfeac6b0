"""What lets a replica into a session that another has made: a key that all replicas have, and no pod. Pure.

SECURITY: a guest finds its supervisor's name and may connect. It has neither the key nor the token; the supervisor has
the token's hash, which does not lead back (tests/kube/sessions/test_doors.py).
"""

from __future__ import annotations

import hashlib
import hmac


class SessionKey:
    """A class, so that no `repr` of what holds it shows it."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, uid: str) -> str:
        """For the pod of this uid: one that leaks opens no other."""
        return hmac.new(self._key, uid.encode(), hashlib.sha256).hexdigest()

    def proof(self, uid: str) -> str:
        """What the pod may know of its token."""
        return hashlib.sha256(self.token(uid).encode()).hexdigest()
