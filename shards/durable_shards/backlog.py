"""Large messages wait here and are worked on in portions, their clients in turns.

A message may hold thousands of calls, the whole mailbox of a hot object for instance, and is work for many
milliseconds. Of each client that has more than a portion to be done one portion is done in turn (round robin, as
Nagle's "On packet switches with infinite storage", 1985, does with the hosts of a network), and between two portions
the socket is read: a client with a few calls waits for one portion and not for everything that somebody else has sent.

The calls of one client stay in their order. What is read ahead is bounded, in bytes of all clients together: beyond it
the socket is held, and everything waits there and then at its senders.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from durable_shards.peers import ZmqPeer
from durable_shards.wire import Call

PORTION: Final = 128
"""Calls that are worked on in one go, so that the store and the clients work on them while we go on."""
BACKLOG_BYTES_MAX: Final = 1024 * 1024
"""Of messages that were read and are not finished; the last of them may go beyond it."""


class _Message:
    """A message that is worked on, and how far."""

    __slots__ = ("calls", "done", "size")

    def __init__(self, calls: list[Call], done: int, size: int) -> None:
        self.calls = calls
        self.done = done
        self.size = size


class Backlog:
    """`work(peer, calls)` is called for one portion at each tick of the loop, until nothing is left."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[ZmqPeer, list[Call]], None],
        *,
        hold: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._work = work
        self._hold = hold
        self._go_on = go_on
        self._messages: dict[ZmqPeer, deque[_Message]] = {}
        """The client that is next comes first."""
        self._size = 0
        self._held = False

    def __contains__(self, peer: ZmqPeer) -> bool:
        return peer in self._messages

    def add(self, peer: ZmqPeer, calls: list[Call], size: int) -> None:
        """Work on these behind all that waits of this client. `size` is that of their message, in bytes."""
        done = 0
        if not self._messages:
            self._loop.call_soon(self._tick)
            self._messages[peer] = deque()
            # Nobody was before them: the first portion need not wait for the next tick.
            done = min(PORTION, len(calls))
        elif peer not in self._messages:
            self._messages[peer] = deque()
        self._messages[peer].append(_Message(calls, done, size))
        self._size += size
        if self._size > BACKLOG_BYTES_MAX and not self._held:
            self._held = True
            self._hold()
        if done:
            self._work(peer, calls[:done])

    def _tick(self) -> None:
        peer = next(iter(self._messages))
        messages = self._messages.pop(peer)
        message = messages[0]
        calls = message.calls[message.done : message.done + PORTION]
        message.done += PORTION
        if message.done >= len(message.calls):
            messages.popleft()
            self._size -= message.size
        if messages:
            self._messages[peer] = messages
        if self._messages:
            self._loop.call_soon(self._tick)
        if self._held and self._size <= BACKLOG_BYTES_MAX:
            self._held = False
            self._go_on()
        self._work(peer, calls)
