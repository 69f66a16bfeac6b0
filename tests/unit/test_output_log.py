"""What a run has printed, read again, from any place and while it grows."""

from __future__ import annotations

import pytest

from broker import output_log
from broker.output_log import MAX_PIECE_BYTES, OutputLog, Reader
from pool import Stream


def everything(reader: Reader) -> list[tuple[str, bytes]]:
    return list(iter(reader.next, None))


def log_of(*pieces: tuple[Stream, bytes]) -> OutputLog:
    log = OutputLog()
    for stream, data in pieces:
        log.add(stream, data)
    return log


def test_the_streams_come_in_the_order_in_which_they_were_written() -> None:
    log = log_of(("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c"), ("stdout", b"d"))
    assert everything(Reader(log)) == [("stdout", b"a"), ("stderr", b"b"), ("stdout", b"cd")]


def test_a_reader_goes_on_where_it_was_when_more_comes() -> None:
    log = log_of(("stdout", b"a"))
    reader = Reader(log)
    assert everything(reader) == [("stdout", b"a")]
    log.add("stdout", b"b")
    log.add("stderr", b"c")
    assert everything(reader) == [("stdout", b"b"), ("stderr", b"c")]
    assert everything(reader) == []


def test_one_piece_is_no_longer_than_one_of_the_wires() -> None:
    found = everything(Reader(log_of(("stdout", bytes(2 * MAX_PIECE_BYTES + 1)))))
    assert [len(data) for _, data in found] == [MAX_PIECE_BYTES, MAX_PIECE_BYTES, 1]


def test_a_program_that_alternates_for_ever_makes_only_so_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_log, "MAX_TURNS", 3)
    pair: list[tuple[Stream, bytes]] = [("stdout", b"o"), ("stderr", b"e")]
    log = log_of(*pair * 4)
    assert len(log.turns) == 3
    found = everything(Reader(log))
    assert [stream for stream, _ in found[:3]] == ["stdout", "stderr", "stdout"]
    texts = {name: b"".join(data for stream, data in found if stream == name) for name in ("stdout", "stderr")}
    assert texts == {"stdout": b"oooo", "stderr": b"eeee"}
