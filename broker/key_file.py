"""The key file on disk: read at the start, and again whenever it has changed.

Rule 1: a start without usable keys is no start. Who asked for keys must never be served without.
Rule 2: a file that breaks later changes nothing but what is said: the keys from before hold, `/health` and the log
        say why.
"""

from __future__ import annotations

import os
import stat

import anyio
import anyio.to_thread
import structlog

from broker.keys import Keys, KeysBroken, parse
from broker.setting_values import SettingsError
from broker.upkeep import again_and_again

_log = structlog.get_logger()

MAX_BYTES = 2**20
LOOK_SECONDS = 2.0
"""The whole file is read each time: a cluster's Secret is swapped by a link, and times of change have grains. Shorter
takes a key back sooner; a cluster needs about a minute to bring a change here, however short."""


class KeyFile:
    """The keys that hold now."""

    def __init__(self, path: str) -> None:
        """Raises `SettingsError`, for the start."""
        self.path = path
        self.trouble: str | None = None
        """Why the file as it is now is not used; a sentence for `/health`, without its content or its place."""
        try:
            self._data = read(path)
            self.keys: Keys = parse(self._data)
        except KeysBroken as error:
            raise SettingsError(f"BROKER_KEYS_FILE={path} cannot be used: {error}.") from None

    async def watch_forever(self) -> None:
        await again_and_again("keys.look", self.look, LOOK_SECONDS)

    async def look(self) -> None:
        """Take over what has changed."""
        try:
            data = await anyio.to_thread.run_sync(read, self.path)
            self._take(data)
        except KeysBroken as error:
            self._complain(str(error))

    def _take(self, data: bytes) -> None:
        if data == self._data and self.trouble is None:
            return
        self.keys, self._data, self.trouble = parse(data), data, None
        _log.info("keys.loaded", keys=len(self.keys.tenants), tenants=len(self.keys.names))

    def _complain(self, reason: str) -> None:
        trouble = f"The key file has changed and cannot be used: {reason}. The keys from before still hold."
        if trouble != self.trouble:
            _log.error("keys.broken", reason=reason)
        self.trouble = trouble


def read(path: str) -> bytes:
    """Raises `KeysBroken` when it cannot be read, or others can."""
    try:
        # Not to wait for the other end of a pipe that somebody named here.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _refuse_open_to_others(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeysBroken(error.strerror or "it cannot be read") from None
    if len(data) > MAX_BYTES:
        raise KeysBroken(f"it is longer than {MAX_BYTES} bytes")
    return data


def _refuse_open_to_others(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise KeysBroken("it is no file")
    # SECURITY: who can write it lets anybody in, and who can read it learns whose keys there are. Its group may read
    # it: that is how a cluster hands a Secret over (tests/unit/test_key_file.py).
    if mode & 0o007 or mode & stat.S_IWGRP:
        raise KeysBroken(f"others may read or write it (mode {stat.S_IMODE(mode):04o}); chmod 0640 is the most")
