"""What the benchmarks on a cluster ask for and make of it. That they measure at all is for `make bench-cluster`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from benchmarks import machine
from benchmarks.client import Answer
from benchmarks.cluster import __main__ as command
from benchmarks.cluster.answers import Phases
from benchmarks.cluster.ground import Ground
from benchmarks.cluster.plain import Plain
from benchmarks.rows import Row
from pool.kube import config, manifest
from pool.kube.api import Api
from tests.cluster.harness import Cluster

GROUND = Ground(Cluster(Path("/nowhere"), is_ours=True), "namespace", "an/image:1")


def result(**changed: object) -> Answer:
    timings = {"queue": 0.0, "lease": 0.1, "stage": 0.2, "run": 3.0, "collect": 0.0}
    body = {"exit_code": 0, "stdout": "1\n", "duration_ms": 2, "timings_ms": timings, **changed}
    return Answer(200, msgspec.json.encode(body))


def test_all_rows_are_measured_unless_some_are_named():
    assert command.arguments([]).rows == list(command.BENCHMARKS)
    assert command.arguments(["--quick", "--rows", "ping,warm"]).rows == ["ping", "warm"]


def test_an_unknown_row_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        command.arguments(["--rows", "warm,nonsense"])
    assert "no benchmark: nonsense" in capsys.readouterr().err


def test_a_run_is_kept_beside_those_of_the_local_backend(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "kind", lambda: "2-core-test")
    rows = [Row(what="w", value=1.0, unit="ms", bar=2)]
    path = command.save(rows, {"cores": 2}, 3.0, tmp_path)
    assert path.name.endswith("-2-core-test-cluster.json")
    kept = json.loads(path.read_text())
    assert (kept["machine"], kept["seconds"], kept["rows"][0]["met"]) == ({"cores": 2}, 3.0, "yes")


def test_where_the_time_went_is_kept_of_good_answers_only():
    phases = Phases()
    assert phases(result()) == ""
    assert phases(result(stdout="2\n", duration_ms=90)) == "wrong output"
    assert phases(result(duration_ms=7)) == ""
    found = phases.figures()
    assert found["phases_p50"] == {
        "queue_ms": 0.0,
        "lease_ms": 0.1,
        "stage_ms": 0.2,
        "run_ms": 3.0,
        "collect_ms": 0.0,
        "program_ms": 2,
    }
    assert [found[name]["program_ms"] for name in ("phases_p95", "phases_p100")] == [7, 7]


def test_the_service_takes_the_configuration_that_it_is_given():
    assert config.decoded(msgspec.json.encode(GROUND.config())) == GROUND.config()


def test_the_service_does_not_see_the_pods_of_the_baseline():
    plain = Plain(GROUND, Api.__new__(Api))
    assert plain.reflector._selector != manifest.selector(GROUND.config())
