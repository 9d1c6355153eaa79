"""The channel between a supervisor and a shard."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from durable_shards.control import Answer, Ask, Channel, Drain, EpochChanged, Message, Ready, Routes
from durable_shards.wire import RoutingTable, ShardRoute


def with_channel(use: Callable[..., Awaitable[None]]) -> None:
    """Run `use(sender, receiver, received, closed)` on a fresh pair."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        received: asyncio.Queue[Any] = asyncio.Queue()
        closed = asyncio.Event()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sender = Channel(ours, loop, on_message=lambda _: None, on_close=lambda: None)
        receiver = Channel(theirs, loop, on_message=received.put_nowait, on_close=closed.set)
        try:
            async with asyncio.timeout(10):
                await use(sender, receiver, received, closed)
        finally:
            sender.close()
            receiver.close()

    asyncio.run(run())


def test_messages_arrive_as_they_were_sent() -> None:
    """Every kind keeps its type and content."""
    table = RoutingTable("s", 3, 1024, [ShardRoute(0, "ipc:///x", 7, (0, 1024), "up", 42)])
    messages: list[Message] = [Ready("ipc:///x", 7, 9), Routes(table), Drain(1.5), Ask(1, "ping"), EpochChanged(8)]

    async def use(sender: Channel, _: Channel, received: asyncio.Queue[Any], __: asyncio.Event) -> None:
        for message in messages:
            sender.send(message)

        assert [await received.get() for _ in messages] == messages

    with_channel(use)


def test_more_than_the_socket_holds_arrives_in_order() -> None:
    """What the kernel does not take at once waits, and nothing overtakes it."""

    async def use(sender: Channel, _: Channel, received: asyncio.Queue[Any], __: asyncio.Event) -> None:
        for number in range(100):
            sender.send(Answer(number, "x" * 50_000))

        assert [(await received.get()).id for _ in range(100)] == list(range(100))

    with_channel(use)


def test_the_end_of_one_side_is_seen_by_the_other() -> None:
    """What was sent before still arrives."""

    async def use(sender: Channel, _: Channel, received: asyncio.Queue[Any], closed: asyncio.Event) -> None:
        sender.send(EpochChanged(1))
        sender.close()

        await closed.wait()
        assert received.get_nowait() == EpochChanged(1)

    with_channel(use)


def test_sending_to_a_side_that_is_gone_is_harmless() -> None:
    """Before and after its end was noticed."""

    async def use(sender: Channel, receiver: Channel, _: asyncio.Queue[Any], __: asyncio.Event) -> None:
        receiver.close()
        for number in range(3):
            sender.send(EpochChanged(number))
            await asyncio.sleep(0)
        sender.close()
        sender.send(EpochChanged(4))

    with_channel(use)
