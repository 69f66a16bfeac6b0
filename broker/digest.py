"""Whether two requests for a run are the same. Pure."""

from __future__ import annotations

import hashlib

import msgspec

from broker.schemas import ExecuteRequest


def digest(request: ExecuteRequest) -> str:
    """SHA-256 over all that decides what runs, after defaults: neither spelling nor order of the body matters."""
    fields = msgspec.structs.asdict(request)
    # `given` is the path as the caller spelled it, and inputs are staged each at its own: their order is nothing.
    fields["files"] = sorted((file.path, file.file_id) for file in request.files)
    if request.session_id is None:
        del fields["session_id"]  # a key that was used before there were sessions stands for the same request still
    return hashlib.sha256(msgspec.msgpack.encode(fields, order="deterministic")).hexdigest()
