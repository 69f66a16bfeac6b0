"""Multipart bodies, however they are cut."""

from __future__ import annotations

import pytest

from broker.errors import BadUpload
from broker.multipart import PartBegin, PartData, PartEnd, Parts

KIND = "multipart/form-data; boundary=x"
BODY = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="\xe6\x8a\xa5.csv"\r\nContent-Type: text/csv\r\n\r\n'
    b"a\r\n--xy\r\nb\r\n--x\r\ncontent-disposition: form-data; name=other\r\n\r\n\r\n--x--\r\n"
)


def parsed(pieces: list[bytes]) -> list[tuple[str, str | None, bytes]]:
    """Each part's name, file name and content."""
    parts, found, data = Parts(KIND), [], bytearray()
    begun = PartBegin("", "")
    for piece in pieces:
        for event in parts.feed(piece):
            match event:
                case PartBegin():
                    begun = event
                case PartData():
                    data += event.data
                case PartEnd():
                    found.append((begun.name, begun.filename, bytes(data)))
                    data.clear()
    parts.finish()
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_parts_are_the_same_however_the_body_is_cut(size: int) -> None:
    pieces = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    assert parsed(pieces) == [("file", "报.csv", b"a\r\n--xy\r\nb"), ("other", None, b"")]


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        (b"form-data; name=file; filename*=utf-8''%E6%8A%A5.csv", "报.csv"),
        (b"form-data; name=file; filename=\"a.csv\"; filename*=UTF-8''%E6%8A%A5.csv", "报.csv"),
        (b'form-data; name=file; filename=""', ""),
        (b"form-data; name=file; filename*=utf-8''%FF", "\ufffd"),
        (b"form-data; name=file; filename*=latin-1''%FF", None),
        (b"form-data; name=file; filename=\"a; filename*=utf-8''b\"", "a; filename*=utf-8''b"),
    ],
)
def test_a_file_name_may_be_encoded_as_old_clients_do(disposition: bytes, filename: str | None) -> None:
    body = b"--x\r\nContent-Disposition: " + disposition + b"\r\n\r\nd\r\n--x--\r\n"
    assert parsed([body]) == [("file", filename, b"d")]


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'b' * 300}"]
)
def test_a_boundary_is_needed(kind: str) -> None:
    with pytest.raises(BadUpload):
        Parts(kind)


@pytest.mark.parametrize("body", [b"", b"--x", BODY[:-4], b"--x\r\n", BODY[: len(BODY) // 2]])
def test_a_body_that_ends_in_the_middle_is_refused(body: bytes) -> None:
    parts = Parts(KIND)
    parts.feed(body)
    with pytest.raises(BadUpload, match="ended"):
        parts.finish()


@pytest.mark.parametrize(
    "body", [b"nonsense", b"--x\r\nno colon\r\n\r\n", b"--x\r\n" + b"A: b\r\n" * 50, b"--x\r\nA: " + b"b" * 10_000]
)
def test_what_is_no_multipart_is_refused(body: bytes) -> None:
    with pytest.raises(BadUpload):
        Parts(KIND).feed(body)
