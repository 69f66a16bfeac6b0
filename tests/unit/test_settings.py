"""Settings: every name, every refusal, and the README's table."""

from __future__ import annotations

from typing import Any

import pytest

from broker.setting_values import SettingsError
from broker.settings import FIELDS, GIVEN, ONYX, VARIABLES, Settings, from_environment
from broker.settings_table import between_markers, markdown
from tests.source_tree import ROOT


def test_defaults_are_the_documented_ones() -> None:
    found = from_environment({})
    assert (found.host, found.port, found.max_exec_timeout_ms, found.max_output_bytes) == (
        "127.0.0.1",
        8000,
        60_000,
        1_000_000,
    )
    assert (found.memory_limit_mb, found.file_ttl_sec, found.max_file_size_mb) == (256, 3600, 100)
    assert found == Settings()


def test_every_onyx_name_is_a_setting() -> None:
    assert set(VARIABLES) >= ONYX
    assert all(name in ONYX | GIVEN or name.startswith("BROKER_") for name in VARIABLES)


GOOD: list[tuple[str, str, str, Any]] = [
    ("PORT", "0", "port", 0),
    ("LOG_LEVEL", "INFO", "log_level", "info"),
    ("EXECUTION_QUEUE_TIMEOUT_SEC", "2.5", "execution_queue_timeout_sec", 2.5),
    ("BROKER_PRELOAD", "numpy, pandas", "preload", ("numpy", "pandas")),
    ("BROKER_PRELOAD", "none", "preload", ()),
    ("BROKER_ALLOW_NO_ISOLATION", "yes", "allow_no_isolation", True),
    (
        "BROKER_CORS_ORIGINS",
        "https://a.example,https://b.example",
        "cors_origins",
        ("https://a.example", "https://b.example"),
    ),
    ("MAX_OUTPUT_BYTES", " ", "max_output_bytes", 1_000_000),
    ("BROKER_FILE_STORAGE_URL", "s3://bucket/p", "file_storage_url", "s3://bucket/p"),
]


@pytest.mark.parametrize(("variable", "text", "field", "value"), GOOD)
def test_text_becomes_a_value(variable: str, text: str, field: str, value: Any) -> None:
    assert getattr(from_environment({variable: text}), field) == value


REFUSED = [
    ({"BROKER_POOLSIZE": "3"}, "BROKER_POOLSIZE is no setting; the nearest one is BROKER_POOL_SIZE."),
    ({"PORT": "eight"}, "PORT=eight: needs a whole number from 0 to 65535; the nearest valid one is 0."),
    ({"PORT": "70000"}, "PORT=70000: needs a whole number from 0 to 65535; the nearest valid one is 65535."),
    ({"PORT": "80.5"}, "PORT=80.5: needs a whole number from 0 to 65535; the nearest valid one is 80."),
    ({"PORT": "8_000"}, "PORT=8_000: needs a whole number from 0 to 65535; the nearest valid one is 8000."),
    ({"BROKER_QUEUE": "-1"}, "BROKER_QUEUE=-1: needs a whole number from 0 to 100000; the nearest valid one is 0."),
    ({"FILE_TTL_SEC": "0"}, "FILE_TTL_SEC=0: needs a whole number from 1 to 315360000; the nearest valid one is 1."),
    (
        {"BROKER_GRACE_SECONDS": "nan"},
        "BROKER_GRACE_SECONDS=nan: needs a number from 0 up; the nearest valid one is 0.",
    ),
    (
        {"BROKER_GRACE_SECONDS": "inf"},
        "BROKER_GRACE_SECONDS=inf: needs a number from 0 up; the nearest valid one is 0.",
    ),
    ({"LOG_LEVEL": "fatal"}, "LOG_LEVEL=fatal: needs one of debug, error, info, warning; the nearest is error."),
    ({"LOG_FORMAT": "jason"}, "LOG_FORMAT=jason: needs one of auto, json, plain; the nearest is json."),
    (
        {"EXECUTOR_BACKEND": "docker"},
        "EXECUTOR_BACKEND=docker: needs one of kubernetes, local; the nearest is local.",
    ),
    (
        {"BROKER_SESSION_SECRET_FILE": "/secret"},
        "BROKER_SESSION_SECRET_FILE=/secret needs EXECUTOR_BACKEND=kubernetes: a session of one machine has one"
        " service.",
    ),
    (
        {"EXECUTOR_BACKEND": "kubernetes"},
        "EXECUTOR_BACKEND=kubernetes needs BROKER_EXECUTOR_FILE, which says how pods are to be: the chart has it.",
    ),
    (
        {"BROKER_ALLOW_NO_ISOLATION": "ture"},
        "BROKER_ALLOW_NO_ISOLATION=ture: needs true or false; the nearest is true.",
    ),
    (
        {"BROKER_MAX_RUNS_PER_SANDBOX": "1001"},
        "BROKER_MAX_RUNS_PER_SANDBOX=1001: needs a whole number from 1 to 1000; the nearest valid one is 1000.",
    ),
    (
        {"BROKER_MAX_RUNS_PER_SANDBOX": "5"},
        "BROKER_MAX_RUNS_PER_SANDBOX=5 needs BROKER_REUSE_SCOPE: set it to any if all who can call this service trust"
        " each other, to tenant if not, or leave it at 1 run a sandbox.",
    ),
]


@pytest.mark.parametrize(("environ", "sentence"), REFUSED)
def test_what_cannot_be_is_refused_with_the_nearest_that_can(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_environment(environ)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "environ",
    [
        {"BROKER_MAX_IN_FLIGHT": "4", "MAX_CONCURRENT_EXECUTIONS": "5"},
        {"BROKER_OVERHEAD_SECONDS": "8", "EXECUTION_QUEUE_TIMEOUT_SEC": "8"},
        {"BROKER_FILE_STORAGE_URL": "bucket"},
        {"BROKER_FILE_STORAGE_URL": "file:///etc"},
        {"HOST": "a\x00b"},
        {"BROKER_TENANT_CONCURRENCY": "4"},
        {"BROKER_TENANT_RUNS_PER_MINUTE": "4"},
        {"BROKER_TENANT_QUEUE": "4"},
        {"BROKER_TENANT_FILE_QUOTA_MB": "4"},
        {"BROKER_TENANT_SESSIONS": "0"},
    ],
)
def test_values_that_contradict_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(environ))):
        from_environment(environ)


def test_other_programs_variables_are_none_of_ours() -> None:
    assert from_environment({"PATH": "/bin", "POOL_SIZE": "x", "CPU_TIME_LIMIT_SEC": "5"}) == Settings()


def test_what_follows_from_what_is_not_set() -> None:
    assert (Settings(pool_size=4).in_flight, Settings(pool_size=20).in_flight) == (64, 160)
    assert Settings(max_concurrent_executions=16).in_flight == Settings(max_in_flight=16).in_flight == 16
    assert (Settings().shared_seconds, Settings(execution_queue_timeout_sec=30).shared_seconds) == (9, 31)


def test_each_part_gets_its_own() -> None:
    found = Settings(pool_size=3, memory_limit_mb=512, workspace_mb=7, max_output_bytes=2048, processes=9)
    assert (found.pool.size, found.pool.max_in_flight, found.pool.queue) == (3, 64, 256)
    limits = found.limits
    assert (limits.memory_bytes, limits.workspace_bytes, limits.output_bytes) == (512 * 2**20, 7 * 2**20, 2048)
    assert (limits.processes, limits.file_bytes) == (9, 100 * 2**20)


def test_sandboxes_stay_within_a_tenant_where_the_operator_says_so() -> None:
    found = [
        Settings(max_runs_per_sandbox=2, reuse_scope=scope).pool.reuse_within_caller for scope in ("any", "tenant")
    ]
    assert found == [False, True]


def test_the_table_has_a_row_for_every_setting_with_a_meaning() -> None:
    rows = markdown().splitlines()[2:]
    assert len(rows) == len(FIELDS)
    assert all(row.count(" | ") == 2 and len(row.split(" | ")[2]) > 20 for row in rows)


def test_the_readme_shows_the_table_of_the_code() -> None:
    readme = ROOT / "README.md"
    assert readme.is_file()
    assert between_markers(readme.read_text()) == markdown()
