"""What the files of one tenant take, and its quota. Pure."""

from __future__ import annotations

from broker.errors import StorageFull


class Usage:
    __slots__ = ("stored_bytes", "writing_bytes")

    def __init__(self) -> None:
        self.stored_bytes = 0
        """As the last sweep counted, and what came and went since."""
        self.writing_bytes = 0

    @property
    def used_bytes(self) -> int:
        return self.stored_bytes + self.writing_bytes

    def reserve(self, size_bytes: int, quota_bytes: int) -> None:
        """Before a piece is written; negative gives back. A quota of 0 is none. Raises `StorageFull`."""
        after = self.used_bytes + size_bytes
        if size_bytes > 0 and 0 < quota_bytes < after:
            raise StorageFull(
                f"This tenant's files would take {after} bytes, at most {quota_bytes}; delete some or let them expire."
            )
        self.writing_bytes += size_bytes

    def kept(self, size_bytes: int) -> None:
        """What was being written is stored now."""
        self.writing_bytes -= size_bytes
        self.stored_bytes += size_bytes
