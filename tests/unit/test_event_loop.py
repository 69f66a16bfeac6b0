"""What a program of an ordinary user's service could use up for the service."""

from __future__ import annotations

import resource
import selectors

from broker.event_loop import allow_many_open_files, event_loop, polling_loop


def test_as_an_ordinary_user_the_event_loop_needs_no_epoll_watches():
    loop = polling_loop()
    assert isinstance(loop._selector, selectors.PollSelector)  # type: ignore[attr-defined]
    loop.close()
    assert event_loop(as_root=False) == {"loop_factory": polling_loop}


def test_as_root_the_fast_loop_is_used():
    assert event_loop(as_root=True) == {"use_uvloop": True}


def test_open_files_are_allowed_up_to_the_hard_limit():
    set_to: dict[int, tuple[int, int]] = {}
    allow_many_open_files(lambda _: (1024, 4096), set_to.__setitem__)
    assert set_to == {resource.RLIMIT_NOFILE: (4096, 4096)}
