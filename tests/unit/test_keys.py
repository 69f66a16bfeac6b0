"""The key file's content: what it may say, and whose a key is."""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
import pytest

from broker import keys
from broker.errors import NoSessions, SessionsFull, answer
from broker.keys import KeysBroken, digest, line_for, parse
from broker.limits import Limits, check_sessions

A, B = digest("key a").hex(), digest("key b").hex()


def text(*lines: dict[str, Any] | str) -> bytes:
    return "\n".join(each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in lines).encode()


def test_a_key_is_its_tenants_and_no_other_text_is() -> None:
    found = parse(text("# search", line_for("search", "key a", "laptop"), "", line_for("chat", "key b")))
    assert (found.tenant_of("key a"), found.tenant_of("key b")) == ("search", "chat")
    assert [found.tenant_of(each) for each in ("key", "key a ", "", A, "\udcff")] == [None] * 5
    assert found.names == ["search", "chat"]


def test_a_tenant_may_have_several_keys() -> None:
    found = parse(text(line_for("search", "key a"), line_for("search", "key b")))
    assert found.names == ["search"]
    assert found.tenant_of("key b") == "search"


def test_nothing_of_a_key_stands_in_its_line() -> None:
    assert "secret" not in line_for("search", "ci_secret")


class CountingHmac:
    def __init__(self) -> None:
        self.compared = 0

    def compare_digest(self, known: bytes, given: bytes) -> bool:
        self.compared += 1
        return hmac.compare_digest(known, given)


@pytest.mark.parametrize("key", ["key 0", "key 19", "none"])
def test_every_key_is_compared_in_constant_time_wherever_the_right_one_stands(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, counting = parse(text(*(line_for("t", f"key {number}") for number in range(20)))), CountingHmac()
    monkeypatch.setattr(keys, "hmac", counting)
    found.tenant_of(key)
    assert counting.compared == 20


DEFAULTS = Limits(concurrency=4, runs_per_minute=60.0, queue=8, file_quota_mb=100, sessions=2)


def test_a_limit_that_is_not_named_has_its_default_and_null_is_none() -> None:
    found = parse(text(line_for("search", "key a"), {"tenant": "search", "concurrency": 16, "runs_per_minute": None}))
    assert found.limits_of("search", DEFAULTS) == Limits(
        concurrency=16, runs_per_minute=None, queue=8, file_quota_mb=100, sessions=2
    )
    assert found.limits_of("other", DEFAULTS) == DEFAULTS


KEY = {"tenant": "search", "sha256": A}
BROKEN: list[tuple[list[dict[str, Any] | str], str]] = [
    ([], "there is no key in it"),
    (["# nothing"], "there is no key in it"),
    ([KEY, "{"], "line 2: "),
    ([KEY, "ci_a-raw-key-by-mistake"], "line 2: "),
    ([KEY, {"sha256": B}], "line 2: .*tenant"),
    ([{"tenant": "search", "sha256": A.upper()}], "line 1: "),
    ([{"tenant": "search", "sha256": A[:-1]}], "line 1: "),
    ([{"tenant": "", "sha256": A}], "line 1: "),
    ([{"tenant": "Search", "sha256": A}], "line 1: "),
    ([{"tenant": "a\n", "sha256": A}], "line 1: "),
    ([{"tenant": "a" * 65, "sha256": A}], "line 1: "),
    ([{"tenant": "search"}], "line 1: it must have either a sha256 or limits"),
    ([{**KEY, "queue": 3}], "line 1: it must have either a sha256 or limits"),
    ([KEY, KEY], "line 2: this key is in it already"),
    ([KEY, {"tenant": "chat", "sha256": A}], "line 2: this key is in it already"),
    ([KEY, {"tenant": "chat", "queue": 3}], "line 2: limits of a tenant that has no key"),
    (
        [KEY, {"tenant": "search", "queue": 3}, {"tenant": "search", "sessions": 3}],
        "line 3: limits of a tenant that has",
    ),
    ([KEY, {"tenant": "search", "concurrency": 0}], "line 2: .*concurrency"),
    ([KEY, {"tenant": "search", "runs_per_minute": 0}], "line 2: .*runs_per_minute"),
    (
        [KEY, {"tenant": "search", "concurency": 3}],
        "line 2: it has a field that is not known; there are all_metrics,",
    ),
]


@pytest.mark.parametrize(("lines", "sentence"), BROKEN)
def test_what_cannot_be_meant_is_refused_with_its_line(lines: list[dict[str, Any] | str], sentence: str) -> None:
    with pytest.raises(KeysBroken, match=sentence):
        parse(text(*lines))


def test_nothing_of_the_file_is_quoted() -> None:
    for line in ("ci_secret", '{"ci_secret": 1}', '{"tenant": "ci_secret!", "sha256": ""}', '"ci_secret"', "\udcff"):
        with pytest.raises(KeysBroken) as found:
            parse(line.encode("utf-8", "surrogateescape"))
        assert "secret" not in str(found.value)


def test_a_tenant_has_as_many_sessions_as_it_may() -> None:
    check_sessions(Limits(), open_now=1000, first_ends_in_seconds=1.0)
    check_sessions(Limits(sessions=2), open_now=1, first_ends_in_seconds=1.0)
    with pytest.raises(SessionsFull, match="2 sessions, limit 2") as found:
        check_sessions(Limits(sessions=2), open_now=2, first_ends_in_seconds=40.0)
    assert found.value.retry_after_seconds == 40.0


def test_a_tenant_that_may_have_none_is_not_told_to_come_back() -> None:
    with pytest.raises(NoSessions, match="its limit is 0") as found:
        check_sessions(Limits(sessions=0), open_now=0, first_ends_in_seconds=1.0)
    assert not answer(found.value).kind.retryable
    assert answer(found.value).retry_after_seconds is None
