"""`Idempotency-Key` and `X-Execution-Id`: taken, made, or refused with a sentence."""

from __future__ import annotations

import uuid

import pytest
from starlette.datastructures import Headers

from broker.errors import Unprocessable
from broker.execution_headers import execution_id, idempotency_key

ID = "123e4567-e89b-12d3-a456-42661417400a"


@pytest.mark.parametrize("key", ["k", "x" * 255, "../../meta/x", 'a "quoted" key', "~!@#"])
def test_a_key_is_any_printable_ascii(key: str) -> None:
    assert idempotency_key(Headers({"Idempotency-Key": key})) == key


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "a\x7fb"])
def test_another_key_is_refused(key: str) -> None:
    with pytest.raises(Unprocessable, match="1 to 255 printable ASCII"):
        idempotency_key(Headers({"Idempotency-Key": key}))


def test_two_keys_are_refused_for_nobody_knows_which_one_counts() -> None:
    with pytest.raises(Unprocessable, match="once, not 2 times"):
        idempotency_key(Headers(raw=[(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]))


def test_without_headers_there_is_no_key_and_a_new_id() -> None:
    assert idempotency_key(Headers({})) is None
    assert uuid.UUID(execution_id(Headers({}))).version == 4


def test_an_id_is_taken_in_our_spelling() -> None:
    assert execution_id(Headers({"X-Execution-Id": ID.upper()})) == ID


@pytest.mark.parametrize("given", ["", "1", f"{{{ID}}}", ID.replace("-", ""), f"urn:uuid:{ID}", ID + "0"])
def test_what_is_no_uuid_is_refused(given: str) -> None:
    with pytest.raises(Unprocessable, match="must be a UUID"):
        execution_id(Headers({"X-Execution-Id": given}))
