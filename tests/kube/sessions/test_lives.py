"""Replicas end, well or not, and sessions go on; their time ends them, whoever is there."""

from __future__ import annotations

import anyio
import pytest

from tests.cluster.harness import eventually
from tests.kube.support.outages import without
from tests.kube.support.replicas import Estate

pytestmark = pytest.mark.slow

BURIED_SECONDS, AWAY_SECONDS = 60.0, 3.0
BEGIN = "echo kept > file; sleep 1000 & echo $! > pid"
LOOK = "cat file; kill -0 $(cat pid) && echo alive"


def test_its_maker_is_killed_and_the_other_goes_on(own: Estate):
    with own.replica("doomed") as doomed, own.replica("survivor") as survivor:
        doomed.ready()
        session = doomed.open()
        doomed.bash(session, BEGIN)
        doomed.kill()
        assert survivor.bash(session, LOOK) == "kept\nalive\n"
        # Its other pods are buried, for nobody knows what ran in them; this one is not.
        eventually(lambda: not own.pods("doomed"), BURIED_SECONDS)
        assert survivor.bash(session, LOOK) == "kept\nalive\n"
        assert survivor.close(session) == 204


def test_both_end_well_and_one_that_starts_later_serves_it(own: Estate):
    with own.replica("one") as one, own.replica("two") as two:
        session = one.open()
        one.bash(session, BEGIN)
        assert two.bash(session, LOOK) == "kept\nalive\n"
        one.end()
        assert two.bash(session, LOOK) == "kept\nalive\n"
        two.end()
    with own.replica("next") as following:
        assert following.bash(session, LOOK) == "kept\nalive\n"
        assert following.close(session) == 204
        eventually(lambda: not own.session_pods(), 10)


def test_its_time_ends_it_after_its_maker_has_died(own: Estate):
    with own.replica("doomed") as doomed, own.replica("survivor") as survivor:
        session = doomed.open(ttl_seconds=5)
        doomed.kill()
        eventually(lambda: survivor.ask(session, "true").status_code == 404, 20)
        eventually(lambda: not own.session_pods(), 40)


@pytest.mark.parametrize("component", ["apiserver", "containerd", "kubelet"])
async def test_what_carries_its_channels_is_killed_and_calls_come_through(own: Estate, component: str):
    own.cluster.require_ours("stopping a component")
    with own.replica("one") as one, own.replica("two") as two:
        session = one.open()
        one.bash(session, BEGIN)
        assert two.bash(session, LOOK) == "kept\nalive\n"
        async with without(own.cluster, component):
            await anyio.sleep(AWAY_SECONDS)
        for each in (one, two):
            assert each.bash(session, LOOK) == "kept\nalive\n"
        assert one.close(session) == 204


def test_without_a_secret_it_lives_on_the_replica_that_made_it(own: Estate):
    with (
        own.replica("one", BROKER_SESSION_SECRET_FILE="") as one,
        own.replica("two", BROKER_SESSION_SECRET_FILE="") as two,
    ):
        session = one.open()
        assert one.bash(session, "echo on") == "on\n"
        assert two.ask(session, "true").status_code == 404
        one.end()
        eventually(lambda: not own.pods("one"), 40)
