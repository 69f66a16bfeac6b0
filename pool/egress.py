"""The proof that a sandbox reaches nothing: tried from inside, before it is warm and again while it is idle.

A network policy is applied some time after a pod starts, or never, where nothing enforces it.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from pool.backend import Target
from pool.conversation import Conversation
from pool.errors import SandboxStartFailed

ANSWER_SECONDS = 5.0
"""For one try from inside, which takes 1 s where all is well: silence is what is waited for."""

POLICY_SECONDS = 10.0
"""For a policy to be applied. Less gives up where a network plugin is slow; more makes it later that an operator is
told that none is enforced."""

PAUSE_SECONDS = 0.2


async def reached(conversation: Conversation, targets: Sequence[Target]) -> list[str]:
    """Which of the targets can be reached, as `protocol host:port`. No targets: nothing is asked."""
    if not targets:
        return []
    return await conversation.reach(targets, anyio.current_time() + ANSWER_SECONDS)


async def prove(conversation: Conversation, targets: Sequence[Target]) -> None:
    """Return when none can be reached. Raises `SandboxStartFailed` when one still can after a while."""
    latest = anyio.current_time() + POLICY_SECONDS
    while found := await reached(conversation, targets):
        if anyio.current_time() > latest:
            raise SandboxStartFailed(
                f"programs could reach {', '.join(found)}: no network policy holds this pod. Install a network plugin"
                " that enforces NetworkPolicy, or set egressCheck.mode to off if something else holds it",
                reason="egress",
            )
        await anyio.sleep(PAUSE_SECONDS)
