"""Questions to a process: each is sent once, in its turn, and again only when it may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_engine.asking import Asker
from durable_engine.errors import Unavailable
from durable_shards import wire


class Pipe:
    """Takes as many messages as there is room for."""

    def __init__(self) -> None:
        self.room = 0
        self.ids: list[int] = []
        self.asker = Asker("a shard", self.send, asyncio.get_running_loop())

    def send(self, message: bytes) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.ids.append(wire.unpack(message).id)
        return True

    async def ask(self, *ops: str) -> list[asyncio.Task[Any]]:
        """Questions, asked as far as there is room."""
        tasks = [asyncio.ensure_future(self.asker.ask(op, {}, 20.0)) for op in ops]
        await asyncio.sleep(0)
        return tasks


async def test_questions_that_were_not_taken_leave_in_their_order_and_once() -> None:
    """A full pipe keeps the rest for the next flush; one that was given up is not sent any more."""
    pipe = Pipe()
    pipe.room = 1
    tasks = await pipe.ask("list", "list", "list", "list")
    tasks[2].cancel()
    await asyncio.wait([tasks[2]])
    pipe.room = 10
    pipe.asker.flush()
    pipe.asker.flush()
    assert pipe.ids == [1, 2, 4]
    for number in pipe.ids:
        assert pipe.asker.on_response(wire.Response(number, wire.OK, number))
    assert [await tasks[place] for place in (0, 1, 3)] == [1, 2, 4]
    assert not pipe.asker.on_response(wire.Response(3, wire.OK, 3))


async def test_a_broken_connection_repeats_what_may_be_asked_twice() -> None:
    """In the order in which all were asked, those that were not sent before included; the others hear of it."""
    pipe = Pipe()
    pipe.room = 3
    tasks = await pipe.ask("list", "reload", "ping", "stop")
    assert pipe.ids == [1, 2, 3]
    pipe.asker.lost()
    with pytest.raises(Unavailable, match="broke before it answered 'reload'") as told:
        await tasks[1]
    assert told.value.outcome == "unknown"
    pipe.room = 10
    pipe.asker.flush()
    assert pipe.ids == [1, 2, 3, 1, 3, 4]
    for number in (1, 3, 4):
        pipe.asker.on_response(wire.Response(number, wire.OK, number))
    assert [await tasks[place] for place in (0, 2, 3)] == [1, 3, 4]
