"""An answer leaves in one piece where it can, and never later than the turn of the loop after its head."""

from __future__ import annotations

import asyncio

import pytest

from broker.head_with_body import HeadWithBody

HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"{}"


class Written(asyncio.Transport):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.pieces.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def below() -> Written:
    return Written()


async def next_turn() -> None:
    await asyncio.sleep(0)


async def test_a_head_and_its_body_are_one_piece(below: Written):
    transport = HeadWithBody(below, asyncio.get_running_loop())
    for piece in (HEAD, BODY, b"more"):
        transport.write(piece)
    await next_turn()
    assert below.pieces == [HEAD + BODY, b"more"]


async def test_a_head_whose_body_is_still_to_come_does_not_wait_for_it(below: Written):
    transport = HeadWithBody(below, asyncio.get_running_loop())
    transport.write(HEAD)
    await next_turn()
    assert below.pieces == [HEAD]
    transport.write(BODY)
    assert below.pieces == [HEAD, BODY]


async def test_a_head_goes_out_before_the_connection_is_closed(below: Written):
    transport = HeadWithBody(below, asyncio.get_running_loop())
    transport.write(HEAD)
    transport.close()
    await next_turn()
    assert (below.pieces, below.is_closed) == ([HEAD], True)


async def test_a_head_for_a_connection_that_was_lost_is_nobodys(below: Written):
    transport = HeadWithBody(below, asyncio.get_running_loop())
    transport.write(HEAD)
    below.is_closed = True
    await next_turn()
    assert below.pieces == []


async def test_two_answers_of_one_turn_stay_in_order(below: Written):
    transport = HeadWithBody(below, asyncio.get_running_loop())
    for piece in (HEAD, b"", HEAD, BODY):
        transport.write(piece)
    await next_turn()
    assert b"".join(below.pieces) == HEAD + HEAD + BODY
