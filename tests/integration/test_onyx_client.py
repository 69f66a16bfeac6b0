"""A client of the compatible API, unchanged: what one tool call of an agent platform does, from health to clean-up."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.http_service import Running
from tests.onyx_client import OnyxClient, parse_events

FILES = 25
AT_ONCE = 8


@pytest.fixture
def client(service: Running) -> Iterator[OnyxClient]:
    found = OnyxClient(service.url)
    yield found
    found.close()


def test_one_tool_call_from_upload_to_clean_up(service: Running, client: OnyxClient) -> None:
    assert client.is_healthy()
    names = [f"表 {number}.txt" for number in range(FILES)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        ids = list(threads.map(lambda name: client.upload(name.encode(), name), names))
    join = f"text = [open(name).read() for name in {names!r}]\nprint(len(text))\n"
    code = join + "f = open('out.csv', 'w'); f.write(','.join(text)); f.close()"
    files = [{"path": name, "file_id": file_id} for name, file_id in zip(names, ids, strict=True)]
    *output, (kind, result) = client.stream(code, files=files)
    assert "".join(data["data"] for _, data in output) == f"{FILES}\n"
    assert (kind, result["exit_code"]) == ("result", 0)
    (made,) = [each for each in result["files"] if each["kind"] == "file"]
    assert client.download(made["file_id"]).decode() == ",".join(names)
    client.delete(made["file_id"])
    with pytest.raises(requests.HTTPError, match="404"):
        client.download(made["file_id"])


def test_where_there_is_no_stream_the_batch_call_is_used(client: OnyxClient) -> None:
    found = list(client.stream("print('a')", path="/v1/execute/old"))
    assert found[0] == ("output", {"stream": "stdout", "data": "a\n"})
    assert (found[1][0], found[1][1]["exit_code"]) == ("result", 0)


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b", "é😀", "data: x", "event: result"])
def test_output_that_looks_like_lines_or_events_arrives_whole(client: OnyxClient, odd: str) -> None:
    *output, (kind, _) = client.stream(f"print({odd!r} * 300)")
    assert ("".join(data["data"] for _, data in output), kind) == (odd * 300 + "\n", "result")


def test_a_missing_file_is_404_twice_as_the_client_expects(client: OnyxClient) -> None:
    with pytest.raises(requests.HTTPError, match="404"):
        list(client.stream("", files=[{"path": "a", "file_id": str(uuid.uuid4())}]))


def test_eight_runs_at_once_with_files(client: OnyxClient) -> None:
    def run(number: int) -> str:
        file_id = client.upload(str(number).encode(), "n.txt")
        return client.execute("print(open('n.txt').read())", files=[{"path": "n.txt", "file_id": file_id}])["stdout"]

    with ThreadPoolExecutor(AT_ONCE) as threads:
        assert list(threads.map(run, range(24))) == [f"{number}\n" for number in range(24)]


def test_the_parser_here_trips_over_lines_as_the_real_one_does() -> None:
    # The control: with JSON that is not ASCII the stream of the older server cannot be read.
    answer = requests.Response()
    answer.raw = io.BytesIO('event: output\ndata: {"stream":"stdout","data":"a\u2028b"}\n\n'.encode())
    answer.encoding = "utf-8"
    with pytest.raises(ValueError, match="Unterminated string"):
        list(parse_events(answer.iter_lines(decode_unicode=True)))
