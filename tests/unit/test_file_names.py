"""Names of clients: metadata, never a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.file_names import MAX_NAME_BYTES, content_disposition, mime_type, stored_name


@pytest.mark.parametrize(
    ("given_name", "stored"),
    [
        ("a.csv", "a.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.txt", "y.txt"),
        ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
        ("\x00\x1b[31m", "[31m"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("   ", "unnamed"),
        ("dir/", "dir"),
        ("\ud800.txt", ".txt"),
        ("n" * 300 + ".parquet", "n" * 247 + ".parquet"),
        ("é" * 200, "é" * 127),
    ],
)
def test_a_stored_name_is_one_short_printable_name(given_name: str, stored: str) -> None:
    assert stored_name(given_name) == stored


@given(st.text(max_size=400))
def test_any_name_can_be_stored_and_sent(name: str) -> None:
    stored = stored_name(name)
    assert 0 < len(stored.encode()) <= MAX_NAME_BYTES
    assert stored.isprintable()
    assert "/" not in stored
    header = content_disposition(stored)
    assert header.encode("ascii").decode().isprintable()
    assert header.count('"') - header.count('\\"') == 2 or "\\\\" in header


def test_headers_are_rfc_6266() -> None:
    assert content_disposition("a b.csv") == 'attachment; filename="a b.csv"'
    assert content_disposition('a".csv') == 'attachment; filename="a\\".csv"'
    assert content_disposition("报告.csv") == "attachment; filename=\"??.csv\"; filename*=UTF-8''%E6%8A%A5%E5%91%8A.csv"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.png", "image/png"),
        ("x.csv", "text/csv"),
        ("noext", "application/octet-stream"),
        ("x.tar.gz", "application/x-tar"),
    ],
)
def test_types_are_guessed_from_the_path(path: str, kind: str) -> None:
    assert mime_type(path) == kind
