"""The handle of one sandbox, for one run. It dies when the lease ends, or when the sandbox does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio

from pool.backend import Sandbox
from pool.conversation import Conversation
from pool.errors import InputsRefused, LocalProtocolError, RemoteProtocolError, SandboxLost
from pool.program import Outcome, Program, Reason, Sink, StagedFile
from pool.session import Session
from pool.shared_session import SharedSession
from pool.states import Retirement
from sandbox_runtime import wire

LAST_WORDS_SECONDS = 1.0
"""After a sandbox is known to be gone, its outcome may still be on the way. Smaller risks finished runs;
larger delays the answer where a stream stays open although nothing is behind it (kubernetes#129144)."""


class Lease:
    """The right to run one program in one sandbox. Had from `SandboxPool.lease`, never made by a caller."""

    def __init__(self, conversation: Conversation, sandbox: Sandbox) -> None:
        self.sandbox = sandbox.name
        self.missing = conversation.missing
        """Steps of the lock-down that it does without."""
        self.warm = False
        """A sandbox was READY when it was asked for."""
        self.queue_ms = 0.0
        """From asking to being granted."""
        self.lease_ms = 0.0
        """From being granted to having it in hand."""
        self.outcome: Outcome | None = None
        self.is_session = False
        self.may_be_shared = False
        """It is one that others can have a channel to."""
        self.over = anyio.Event()
        """The sandbox is gone, or about to go."""
        self._conversation = conversation
        self._held = sandbox
        self._doubt: Retirement | None = Retirement.UNUSED
        self._is_lost = False
        self._dead: Exception | None = None
        self._scope = anyio.CancelScope()

    async def run(self, program: Program, files: Sequence[StagedFile], sink: Sink, deadline: float) -> Outcome:
        """Run a program to its end, once. Cancelling it, or raising from the sink, costs the sandbox.

        `deadline` is for staging, run and collection together. Raises `SandboxLost` or `RemoteProtocolError`
        if the sandbox fails, `InputsRefused` if what it was given does not fit, `LocalProtocolError` if we are
        to blame.
        """
        if self._dead is not None:
            raise self._dead
        self._dead = LocalProtocolError("one run a lease: this one has been used")
        self._doubt = Retirement.CANCELLED
        began = anyio.current_time()
        try:
            self.outcome = await self._outcome(program, files, sink, deadline)
        except SandboxLost:
            self._doubt = Retirement.LOST
            if not self._held.was_out_of_memory:
                raise
            self.outcome = _died_of_memory(anyio.current_time() - began)
        else:
            self._doubt = None
        return self.outcome

    async def open_session(
        self, *, ttl_seconds: float, files: Sequence[StagedFile], deadline: float, loopback: bool
    ) -> Session:
        """Hold the sandbox as a session, for as long as the lease lasts, and `ttl_seconds` at most; in place of a run.

        Raises as `run` does.
        """
        if self._dead is not None:
            raise self._dead
        self._dead = LocalProtocolError("this lease's sandbox is a session")
        # SECURITY: without Landlock a guest can trace what is exec'd beside it: no other channel is ever let in.
        proof = self._held.proof if self._conversation.has_landlock else ""
        terms = wire.Session(ttl_ms=max(1, round(ttl_seconds * 1000)), proof=proof, loopback=loopback)
        self._doubt = Retirement.LOST
        with self._blamed():
            session = await self._conversation.become_session(terms, files, deadline)
        self._doubt, self.is_session, self.may_be_shared = Retirement.USED, True, bool(proof)
        return session

    async def share(self, session_id: str, tenant: str, *, expires_at: float) -> None:
        """Leave the session to all services of the kind: it outlives the lease, and its channel here ends.

        Raises `PoolTimeout`; then it goes with the lease.
        """
        await self._held.share(
            SharedSession(
                session_id=session_id,
                tenant=tenant,
                expires_at=expires_at,
                protocol=self._conversation.protocol,
                limits=self._conversation.limits,
            )
        )
        self._doubt = Retirement.SHARED

    async def _outcome(self, program: Program, files: Sequence[StagedFile], sink: Sink, deadline: float) -> Outcome:
        with self._scope, self._blamed():
            return await self._conversation.run(program, files, sink, deadline)
        raise SandboxLost(f"sandbox {self.sandbox} is gone, and its outcome did not come")

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Who is to blame for what goes wrong decides what becomes of the sandbox."""
        try:
            yield
        except InputsRefused:
            self._doubt = Retirement.USED
            raise
        except RemoteProtocolError:
            self._doubt = Retirement.MISBEHAVED
            raise

    @property
    def doubt(self) -> Retirement | None:
        """Why the sandbox must not be used again; None after an uneventful run."""
        if self._is_lost:
            return Retirement.USED if self.outcome else Retirement.LOST
        return self._doubt

    @property
    def was_uneventful(self) -> bool:
        """It ended by itself, and was heard out on the channel that it was begun on."""
        ended = self.outcome is not None and self.outcome.reason is Reason.EXITED
        return ended and not self._conversation.reattached

    @property
    def result(self) -> str | None:
        """What became of the run, in a word; None if there was none."""
        if self.is_session:
            return None
        if self.outcome is not None:
            return self.outcome.reason.value
        if self._doubt is Retirement.USED:
            return "refused"
        return None if self._doubt is Retirement.UNUSED else str(self.doubt)

    def lost(self) -> None:
        """The sandbox has ended by itself: what it has said is still heard, but not waited for long."""
        self._dead = self._dead or SandboxLost(f"sandbox {self.sandbox} was lost before its run began")
        self._is_lost = True
        self.over.set()
        self._scope.deadline = min(self._scope.deadline, anyio.current_time() + LAST_WORDS_SECONDS)

    def cut(self) -> None:
        """The sandbox is being destroyed under its holder."""
        self._dead = self._dead or SandboxLost(f"sandbox {self.sandbox} was taken away before its run began")
        self.over.set()
        self._scope.cancel()

    def release(self) -> None:
        """The lease has ended."""
        self._dead = LocalProtocolError(f"the lease of sandbox {self.sandbox} has been released")


def _died_of_memory(seconds: float) -> Outcome:
    """Of a program that took its whole sandbox along: nobody is left who could say more."""
    return Outcome(
        exit_code=137,
        reason=Reason.OOM,
        signal="SIGKILL",
        duration_ms=round(seconds * 1000),
        limits_hit=("memory",),
        stdout_truncated=False,
        stderr_truncated=False,
        files_skipped=(),
        files_skipped_count=0,
        stage_ms=0.0,
        run_ms=seconds * 1000,
        collect_ms=0.0,
    )
