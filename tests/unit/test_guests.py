from __future__ import annotations

import pytest

from sandbox_runtime import guests

BRIDGE, GUEST, OTHER = 5, 6, 7


def test_those_who_are_killed_are_seen_gone(monkeypatch: pytest.MonkeyPatch):
    looks = iter([[GUEST, OTHER], [GUEST, OTHER], [OTHER], []])
    monkeypatch.setattr(guests, "living", lambda: next(looks))
    monkeypatch.setattr(guests, "came_from_outside", lambda pid: pid == BRIDGE)
    monkeypatch.setattr(guests, "_signal_all", lambda number: None)

    guests.kill_all_but_bridges()

    assert next(looks, "gone") == "gone"


def test_a_bridge_that_comes_while_they_die_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    looks = iter([[GUEST], [BRIDGE, GUEST], [BRIDGE]])
    killed: list[int] = []
    monkeypatch.setattr(guests, "living", lambda: next(looks))
    monkeypatch.setattr(guests, "came_from_outside", lambda pid: pid == BRIDGE)
    monkeypatch.setattr(guests, "_signal_all", killed.append)

    guests.kill_all_but_bridges()

    assert len(killed) == 1
    assert next(looks, "gone") == "gone"


def test_whoever_cannot_die_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guests, "living", lambda: [GUEST])
    monkeypatch.setattr(guests, "came_from_outside", lambda pid: False)
    monkeypatch.setattr(guests, "_signal_all", lambda number: None)
    monkeypatch.setattr(guests, "STANDING_SECONDS", 0.01)

    guests.kill_all_but_bridges()
