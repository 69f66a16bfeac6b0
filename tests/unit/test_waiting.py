from __future__ import annotations

from pool.caller import Caller
from pool.waiting import WaiterId, Waiting


def filled(*callers: str) -> Waiting:
    waiting = Waiting()
    for serial, caller in enumerate(callers):
        waiting.add(WaiterId(serial), Caller(caller))
    return waiting


def ahead_of(waiting: Waiting, caller: str) -> int:
    """Where nobody has a limit."""
    return waiting.ahead_of(caller, lambda other: waiting.count(other.name))


def served(waiting: Waiting) -> list[int]:
    return [in_turn(waiting) for _ in range(len(waiting))]


def in_turn(waiting: Waiting) -> WaiterId:
    return waiting.take(next(iter(waiting.callers())).name)


def test_one_caller_is_served_in_order():
    assert served(filled("a", "a", "a")) == [0, 1, 2]


def test_callers_take_turns():
    assert served(filled("a", "a", "a", "b", "c", "b")) == [0, 3, 4, 1, 5, 2]


def test_a_newcomer_waits_one_turn_behind_a_crowd():
    waiting = filled(*["crowd"] * 100, "newcomer")
    assert ahead_of(waiting, "another") == 2
    assert [in_turn(waiting), in_turn(waiting)] == [0, 100]


def test_ahead_of_is_what_then_happens():
    for callers in ["", "a", "ab", "aab", "aaabbc", "abcabcabc", "bbbbb"]:
        waiting = filled(*callers)
        ahead = ahead_of(waiting, "a")
        waiting.add(WaiterId(99), Caller("a"))
        assert abs(served(waiting).index(99) - ahead) <= max(0, len(set(callers)) - 1), callers


def test_who_gives_up_is_taken_out_once():
    waiting = filled("a", "b", "a")
    assert waiting.remove(WaiterId(0))
    assert not waiting.remove(WaiterId(0))
    assert WaiterId(0) not in waiting
    assert WaiterId(2) in waiting
    assert served(waiting) == [2, 1]


def test_clear_returns_everybody():
    waiting = filled("a", "b", "a")
    assert sorted(waiting.clear()) == [0, 1, 2]
    assert len(waiting) == 0


def test_who_is_passed_over_keeps_its_turn():
    waiting = filled("blocked", "a", "a")
    waiting.take("a")
    assert [each.name for each in waiting.callers()] == ["blocked", "a"]


def test_who_asks_for_one_at_a_time_does_not_stand_behind_a_flood_each_time():
    waiting = filled(*["flood"] * 100)
    for serial in range(200, 210):
        in_turn(waiting)
        assert ahead_of(waiting, "guest") == 0
        waiting.add(WaiterId(serial), Caller("guest"))
        assert in_turn(waiting) == serial


def test_many_who_ask_again_at_once_do_not_keep_a_flood_waiting():
    waiting, order = filled("flood", *(f"guest {number}" for number in range(20))), []
    for serial in range(100, 160):
        caller = next(iter(waiting.callers())).name
        waiting.take(caller)
        order.append(caller)
        waiting.add(WaiterId(serial), Caller(caller))
    assert order.count("flood") == 3


def test_nothing_is_kept_of_callers_when_nobody_waits():
    waiting = filled("a", "b")
    served(waiting)
    assert not waiting._turns


def test_a_callers_limits_are_those_it_came_with_last():
    waiting = filled("a")
    waiting.add(WaiterId(9), Caller("a", max_in_flight=3))
    assert [each.max_in_flight for each in waiting.callers()] == [3]
