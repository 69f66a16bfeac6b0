"""The streams of an exec in WebSocket messages: what servers send is heard, everything else is refused in one way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import RemoteProtocolError
from pool.kube.channels import (
    LONGEST_STATUS_BYTES,
    SEND_BYTES,
    V4,
    V5,
    Complaint,
    Ended,
    Output,
    end_of_input,
    heard,
    said,
)


def status(**fields: object) -> bytes:
    return b"\x03" + json.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, **fields}).encode()


@pytest.mark.parametrize("message", [b"\x01", b"\x02", b"\x03"])
def test_an_open_stream_is_not_a_word_of_the_process(message: bytes) -> None:
    assert heard(message) is None


def test_output_and_complaints_are_told_apart() -> None:
    assert heard(b"\x01a\x02\n") == Output(b"a\x02\n")
    assert heard(b"\x02boom") == Complaint(b"boom")


# As read on Kubernetes 1.34: a clean end, `sh -c 'exit 7'`, a process killed by a signal, a container that is gone.
ENDS = [
    ({"status": "Success"}, 0),
    (
        {
            "status": "Failure",
            "message": "command terminated with non-zero exit code: exit status 7",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
        },
        7,
    ),
    (
        {
            "status": "Failure",
            "message": "command terminated with non-zero exit code: exit status 137",
            "details": {"causes": [{"reason": "Other", "message": "x"}, {"reason": "ExitCode", "message": "137"}]},
        },
        137,
    ),
    ({"status": "Failure", "message": 'container not found ("main")', "reason": "InternalError", "code": 500}, None),
    ({"status": "Failure", "message": "Internal error", "details": {"causes": [{"message": "no code here"}]}}, None),
    ({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "many"}]}}, None),
]


@pytest.mark.parametrize(("fields", "exit_code"), ENDS)
def test_the_exit_code_is_told_where_it_is_known(fields: dict[str, object], exit_code: int | None) -> None:
    ended = heard(status(**fields))
    assert isinstance(ended, Ended)
    assert ended.exit_code == exit_code
    assert ended.text


@pytest.mark.parametrize(
    "message",
    [b"", b"\x00x", b"\x04x", b"\xffx", b"\x03{", b"\x03[]", b"\x03{}", b"\x03\xff", status(status=1)],
)
def test_what_no_server_sends_is_refused(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        heard(message)


def test_an_endless_status_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="limit"):
        heard(status(status="Failure", message="x" * LONGEST_STATUS_BYTES))


@given(st.binary(max_size=200))
def test_any_bytes_are_heard_or_refused(message: bytes) -> None:
    try:
        heard(message)
    except RemoteProtocolError:
        return


@given(st.binary(max_size=3 * SEND_BYTES))
def test_what_is_said_arrives_whole_in_messages_of_bounded_size(data: bytes) -> None:
    messages = list(said(data))
    assert b"".join(message[1:] for message in messages) == data
    assert all(message[0] == 0 and 1 < len(message) <= SEND_BYTES + 1 for message in messages)


def test_only_v5_can_end_its_input() -> None:
    assert (end_of_input(V5), end_of_input(V4)) == (b"\xff\x00", None)
