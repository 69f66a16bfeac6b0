"""Sessions have IP sockets where it is known that they lead nowhere, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.app import has_loopback
from pool import Isolation
from tests.fakes.backend import FakeBackend
from tests.http_service import running


@pytest.mark.parametrize(
    ("level", "network", "expected"),
    [
        ("full", "no_network", True),
        ("reduced", "no_network", True),
        ("full", "egress_proved", True),
        ("full", "egress_unchecked", False),
        ("none", "no_network", False),
        ("none", "egress_proved", False),
    ],
)
def test_where_the_network_is_held_sessions_have_loopback(level: str, network: str, expected: bool) -> None:
    assert has_loopback(Isolation(level=level, network=network)) is expected


class Unchecked(FakeBackend):
    def isolation(self) -> Isolation:
        return Isolation(level="full", network="egress_unchecked")


def test_a_service_whose_egress_is_not_checked_says_so_and_gives_its_sessions_none(tmp_path: Path) -> None:
    with running(tmp_path, Unchecked()) as service:
        assert service.client.get("/health").json()["network_isolation"] == "egress_unchecked"
        assert service.service.sessions._loopback is False
