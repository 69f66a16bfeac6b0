"""Where files lie: a folder, or a bucket named by URL. Errors of either come out as ours."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from broker.errors import FileMissing, StorageFailed
from broker.setting_values import SettingsError

_log = structlog.get_logger()

# A folder takes pieces of any size; S3 refuses parts of an upload below 5 MiB. Larger means fewer calls, and more
# memory held by each upload and download under way.
LOCAL_PIECE_BYTES = 256 * 1024
REMOTE_PIECE_BYTES = 5 * 2**20


class Storage(msgspec.Struct, frozen=True):
    objects: ObjectStore
    piece_bytes: int
    folder: Path | None
    """Where half-written files of a killed service lie; None for a bucket, which shows none."""


def open_storage(url: str | None, folder: str) -> Storage:
    """Raises `SettingsError` when it cannot be used."""
    return _folder(Path(folder)) if url is None else _bucket(url)


def _folder(path: Path) -> Storage:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign(path)
        for part in ("data", "meta", "claims", "outcomes"):
            (path / part).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"FILE_STORAGE_DIR={path} cannot be used: {error.strerror}. Name a folder that this user may write."
        ) from None
    return Storage(LocalStore(path), LOCAL_PIECE_BYTES, path)


def _refuse_foreign(path: Path) -> None:
    # SECURITY: the default lies in /tmp, where another user can make the folder, or a link of that name, first
    # (tests/unit/test_storage.py). Below a folder that only we or root can write, such as a mounted volume, nobody can.
    if not path.absolute().parent.stat().st_mode & stat.S_IWOTH:
        return
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise SettingsError(
            f"FILE_STORAGE_DIR={path} is a link, or others may write to it. Name a folder of this user's own."
        )
    if found.st_uid != os.getuid():
        raise SettingsError(
            f"FILE_STORAGE_DIR={path} belongs to user {found.st_uid}. Name a folder of this user's own."
        )


def _bucket(url: str) -> Storage:
    # A call that hangs would hold a request for longer than its client waits: two tries of some seconds each.
    try:
        objects = from_url(
            url,
            # An endpoint without TLS is the operator's own word for it, in the provider's variable.
            client_options={
                "allow_http": True,
                "timeout": timedelta(seconds=15),
                "connect_timeout": timedelta(seconds=3),
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
        )
    except (BaseError, ValueError) as error:
        raise SettingsError(f"BROKER_FILE_STORAGE_URL={url} cannot be used: {first_line(error)}") from None
    return Storage(objects, REMOTE_PIECE_BYTES, None)


def first_line(error: Exception) -> str:
    """What an object store says first; the rest is its internals."""
    return str(error).partition("\n")[0][:256]


@contextmanager
def our_errors(missing: str | None = None) -> Iterator[None]:
    """Turn what an object store raises into `StorageFailed`; where an object may be missing, into `FileMissing`."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise FileMissing(missing) from None
        # The answer does not say it: addresses and bucket names are nobody's business but the operator's.
        _log.warning("storage.failed", reason=first_line(error))
        raise StorageFailed("The file store failed; the service's log says why.") from error
