"""The socket's part of a call: both ends of a real ZeroMQ connection, with the threads that ZeroMQ has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import process_time_ns

from durable_shards.network import ZmqNetwork
from durable_shards.transport import RouterTransport


async def socket_ns(directory: Path, call_bytes: int, reply_bytes: int, messages: int) -> float:
    """Processor time of this process for a message there and one back, in nanoseconds."""
    loop = asyncio.get_running_loop()
    network = ZmqNetwork()
    connected, over = asyncio.Event(), asyncio.Event()
    call, reply = b"c" * call_bytes, b"r" * reply_bytes
    left = messages

    def on_call(identity: bytes, _: bytes) -> None:
        server.send(identity, reply)

    def on_reply(_: bytes) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            client.send(call)
        else:
            over.set()

    server = RouterTransport(f"ipc://{directory / 'pair'}", on_call, loop)
    client = network.dial(
        server.endpoint,
        on_reply,
        loop,
        on_connected=connected.set,
        on_disconnected=lambda: None,
        on_writable=lambda: None,
    )
    try:
        await connected.wait()
        begun = process_time_ns()
        client.send(call)
        await over.wait()
        return (process_time_ns() - begun) / messages
    finally:
        client.close()
        server.close()
        network.close()
