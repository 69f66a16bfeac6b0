"""The warm pool. Its API: `SandboxPool.lease`, and `Backend.sessions` for what outlives a lease."""

from pool.backend import Backend, Channel, Isolation, Sandbox, Target
from pool.caller import ANYBODY, Caller
from pool.errors import (
    ChannelLost,
    InputsRefused,
    LocalProtocolError,
    PoolClosed,
    PoolError,
    PoolSaturated,
    PoolTimeout,
    ProtocolError,
    RemoteProtocolError,
    SandboxError,
    SandboxLost,
    SandboxStartFailed,
    SessionGone,
)
from pool.lease import Lease
from pool.observer import NullObserver, Observer, OnlyTroubles
from pool.pool import SandboxPool
from pool.program import Outcome, Program, Reason, Sink, SkippedFile, StagedFile, Stream
from pool.session import Session, Turn
from pool.settings import PoolSettings, RunLimits
from pool.shared import SharedBackend
from pool.shared_session import SharedSession, SharedSessions
from pool.snapshot import Snapshot
from pool.states import Retirement, State

__all__ = [
    "ANYBODY",
    "Backend",
    "Caller",
    "Channel",
    "ChannelLost",
    "InputsRefused",
    "Isolation",
    "Lease",
    "LocalProtocolError",
    "NullObserver",
    "Observer",
    "OnlyTroubles",
    "Outcome",
    "PoolClosed",
    "PoolError",
    "PoolSaturated",
    "PoolSettings",
    "PoolTimeout",
    "Program",
    "ProtocolError",
    "Reason",
    "RemoteProtocolError",
    "Retirement",
    "RunLimits",
    "Sandbox",
    "SandboxError",
    "SandboxLost",
    "SandboxPool",
    "SandboxStartFailed",
    "Session",
    "SessionGone",
    "SharedBackend",
    "SharedSession",
    "SharedSessions",
    "Sink",
    "SkippedFile",
    "Snapshot",
    "StagedFile",
    "State",
    "Stream",
    "Target",
    "Turn",
]
