"""When to look at memory and processes, and what is read there."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime import container_gauges, gauges, guests, places
from sandbox_runtime.gauges import LONGEST_LOOK_SECONDS, RESTING_LOOK_SECONDS, SHORTEST_LOOK_SECONDS, Gauges

MIB = 2**20
LIMIT = 256 * MIB
amounts = st.integers(min_value=0, max_value=2**44)

V1_STAT = b"cache 4096\nrss 8192\nshmem 0\ntotal_cache 99\ntotal_rss 2490368\ntotal_rss_huge 7\n"
V2_STAT = b"anon 2490368\nfile 4096\nkernel 16384\nanon_thp 7\ninactive_anon 3\n"
V1_OOM = b"oom_kill_disable 0\nunder_oom 0\noom_kill %d\n"
V2_EVENTS = b"low 0\nhigh 0\nmax 12\noom 3\noom_kill %d\noom_group_kill 1\n"


# --- next_look_seconds


@given(used=amounts, limit=amounts)
def test_a_look_comes_within_bounds(used, limit):
    assert SHORTEST_LOOK_SECONDS <= gauges.next_look_seconds(used, limit) <= LONGEST_LOOK_SECONDS


@given(used=amounts, more=amounts, limit=amounts)
def test_the_fuller_the_sooner(used, more, limit):
    assert gauges.next_look_seconds(used + more, limit) <= gauges.next_look_seconds(used, limit)


@given(used=amounts, limit=amounts)
def test_nobody_fills_the_headroom_before_the_next_look(used, limit):
    seconds = gauges.next_look_seconds(used, limit)
    assert seconds == SHORTEST_LOOK_SECONDS or used + seconds * gauges.FILL_BYTES_PER_SECOND <= limit + 1


def test_over_the_limit_is_looked_at_as_soon_as_may_be():
    assert gauges.next_look_seconds(LIMIT + 1, LIMIT) == SHORTEST_LOOK_SECONDS
    assert gauges.next_look_seconds(0, 2**40) == LONGEST_LOOK_SECONDS


# --- what is read


@pytest.fixture
def files(tmp_path):
    """Files with given contents, open for reading, by the name of their gauge."""
    opened: list[int] = []

    def write(**contents):
        for name, text in contents.items():
            (tmp_path / name).write_bytes(text)
        found = {name: os.open(tmp_path / name, os.O_RDONLY) for name in contents}
        opened.extend(found.values())
        return found

    yield write
    for descriptor in opened:
        os.close(descriptor)


@pytest.mark.parametrize("stat", [V1_STAT, V2_STAT])
def test_memory_is_the_anonymous_memory(files, stat):
    assert Gauges(files(memory_stat=stat)).memory_bytes() == 2490368


@pytest.mark.parametrize("stat", [b"", b"rss 8192\ntotal_rss_huge 7\ntotal_rssx 5\n", b"anon_thp 7\n"])
def test_a_field_that_is_not_there_counts_nothing(files, stat):
    assert Gauges(files(memory_stat=stat)).memory_bytes() == 0


@pytest.mark.parametrize("events", [V1_OOM, V2_EVENTS])
def test_only_kills_after_the_beginning_count(files, tmp_path, events):
    gauge = Gauges(files(memory_events=events % 3))
    assert not gauge.was_killed_by_the_kernel()
    (tmp_path / "memory_events").write_bytes(events % 4)
    assert gauge.was_killed_by_the_kernel()


def test_only_refusals_after_the_beginning_count(files, tmp_path):
    gauge = Gauges(files(pids_current=b"256\n", pids_events=b"max 9\n"))
    assert not gauge.has_hit_the_process_limit(256)  # as many as may be is not too many
    (tmp_path / "pids_events").write_bytes(b"max 10\n")
    assert gauge.has_hit_the_process_limit(256)


def test_without_a_count_of_refusals_the_last_process_is_too_many(files):
    gauge = Gauges(files(pids_current=b"255\n"))
    assert gauge.processes() == 255
    assert not gauge.has_hit_the_process_limit(256)
    assert gauge.has_hit_the_process_limit(255)


def test_without_a_cgroup_the_processes_are_counted_one_by_one(monkeypatch):
    gauge = Gauges({})
    monkeypatch.setattr(guests, "living", lambda: [os.getpid(), 2**22 + 1])  # the second is not there
    assert gauge.processes() == 2
    assert MIB < gauge.memory_bytes() < 4096 * MIB
    assert not gauge.was_killed_by_the_kernel()


def test_a_guest_that_hides_its_pages_is_charged_with_all_of_them(monkeypatch):
    monkeypatch.setattr(guests, "living", lambda: [os.getpid()])

    def refuse(pid):
        raise PermissionError(pid)

    monkeypatch.setattr(gauges, "_rolled_up", refuse)
    assert Gauges({}).memory_bytes() > MIB


def test_bridges_are_no_guests(monkeypatch):
    monkeypatch.setattr(guests, "living", lambda: [os.getpid(), 2**22 + 1])
    gauge = Gauges({})
    gauge.bridges.add(os.getpid())
    assert (gauge.processes(), gauge.living(), gauge.memory_bytes()) == (1, [2**22 + 1], 0)


def test_what_bridges_take_of_a_container_is_not_the_programs(files, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "WRITABLE", (str(tmp_path),))
    found = files(memory_stat=b"anon 0\nshmem 0\n", pids_current=b"20\n")
    monkeypatch.setattr(container_gauges, "_opened", lambda: found)
    monkeypatch.setattr(container_gauges, "_bytes_in_places", lambda: 0)
    gauge = container_gauges.ContainerGauges()
    (tmp_path / "memory_stat").write_bytes(b"anon 1073741824\nshmem 0\n")
    assert gauge.has_hit_the_process_limit(17)
    gauge.bridges.add(os.getpid())
    assert not gauge.has_hit_the_process_limit(17)
    assert MIB < 1024 * MIB - gauge.memory_bytes() < 1023 * MIB


def test_guests_are_all_but_the_zygote_and_ourselves():
    assert {1, os.getpid()}.isdisjoint(guests.living())


# --- the kernel's word


@pytest.fixture
def event():
    descriptor = os.eventfd(0, os.EFD_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def test_until_the_kernel_watches_we_do(event):
    gauge = Gauges({"memory_threshold": event})
    assert gauge.first_look_seconds() == SHORTEST_LOOK_SECONDS
    assert gauge.next_look_seconds(0, LIMIT) == gauges.next_look_seconds(0, LIMIT)


def test_while_the_kernel_watches_we_rest(event):
    gauge = Gauges({"memory_threshold": event})
    os.eventfd_write(event, 1)
    assert gauge.first_look_seconds() == RESTING_LOOK_SECONDS
    assert gauge.next_look_seconds(LIMIT - 1, LIMIT) == RESTING_LOOK_SECONDS


def test_when_the_mark_was_crossed_we_watch_again_and_go_on(event):
    gauge = Gauges({"memory_threshold": event})
    os.eventfd_write(event, 1)
    gauge.first_look_seconds()
    os.eventfd_write(event, 1)
    assert gauge.next_look_seconds(LIMIT - 1, LIMIT) == SHORTEST_LOOK_SECONDS
    assert gauge.next_look_seconds(LIMIT - 1, LIMIT) == SHORTEST_LOOK_SECONDS


def test_a_mark_that_was_crossed_before_the_run_is_no_rest(event):
    os.eventfd_write(event, 2)
    assert Gauges({"memory_threshold": event}).first_look_seconds() == SHORTEST_LOOK_SECONDS


def test_the_threshold_is_the_only_alarm(event, files):
    assert Gauges({"memory_threshold": event, **files(pids_events=b"max 0\n")}).alarms() == [event]
    assert Gauges({}).alarms() == []
