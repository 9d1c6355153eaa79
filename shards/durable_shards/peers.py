"""Where the outcomes of calls go: ZeroMQ clients, whose replies are gathered and packed, and callers in this process.

A peer's `encode` runs inside the turn, so that a result which cannot be sent undoes the turn; `put` and `fail` run
when the output gate opens. Both are on the hot path: a reply is one encoded element in its client's outbox, and
one message carries all of them at the next flush.

Answers to other messages than calls (RESPONSE, WELCOME, ERROR) are seldom, and leave at once and whole. A client whose
pipe is full waits for both in one outbox.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from durable_shards import wire
from durable_shards.errors import error_to_wire
from durable_shards.network import Listener
from durable_shards.transport import PACKED_BYTES_MAX, PeerGone
from durable_shards.wire import FAILED, FLAG_ONE_WAY, OK, Call, Peer
from durable_storage.errors import DurableError, TooLarge
from durable_storage.limits import RESULT_BYTES_MAX

OUTBOX_BYTES_MAX: Final = 2 * RESULT_BYTES_MAX
"""Replies and answers kept for a client that reads too slowly; beyond it they are dropped, and its calls time out."""
OUTBOXES_BYTES_MAX: Final = 8 * OUTBOX_BYTES_MAX
"""The same for all clients together: beyond it the largest outboxes are emptied."""
PEERS_MAX: Final = 65_536
"""Clients remembered by one process; beyond it the longest known is forgotten (and remembered again when it calls)."""
RETRY_SECONDS: Final = 0.005
"""A ROUTER cannot say when a slow peer reads again, so its outbox is offered once more after this long."""
RETRY_SECONDS_MAX: Final = 0.1
"""The same when none of the slow peers took anything for a while: packing what nobody takes is work, too."""
_REPLY_BYTES: Final = 48
"""What the interpreter needs for a reply or an answer besides its content."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode
_SMALL: Final = frozenset({bool, float, type(None)})
_IMMUTABLE: Final = frozenset({str, bytes})
_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 64) - 1


class ZmqPeer(Peer):
    """A client at the other end of a ROUTER socket."""

    __slots__ = ("_dirty", "answers", "identity", "outbox", "waiting", "weight")

    def __init__(self, identity: bytes, dirty: list[ZmqPeer]) -> None:
        self.identity = identity
        self.outbox: list[bytes] = []
        self.answers: list[bytes] = []
        """Whole messages; there are some only while it waits."""
        self.waiting = False
        """It reads too slowly: its outbox waits for the retry timer and not for the next flush."""
        self.weight = 0
        """While it waits: bytes of memory that its outbox and its answers take."""
        self._dirty = dirty

    def encode(self, call: Call, version: int, result: Any) -> bytes:
        """Raises TooLarge, and TypeError, ValueError or OverflowError for what msgpack cannot carry."""
        encoded = _encode((call.id, OK, version, result))
        if len(encoded) > RESULT_BYTES_MAX:
            raise TooLarge(
                f"the result of {call.object_type}.{call.handler} is {len(encoded)} bytes, more than the "
                f"{RESULT_BYTES_MAX} allowed; nothing was changed. Return less, for instance in pages"
            )
        return encoded

    def put(self, call: Call, encoded: Any) -> None:
        if call.flags & FLAG_ONE_WAY:
            return
        outbox = self.outbox
        if self.waiting:
            self.weight += len(encoded) + _REPLY_BYTES
        elif not outbox:
            self._dirty.append(self)
        outbox.append(encoded)

    def fail(self, call: Call, error: DurableError) -> None:
        self.put(call, _encode((call.id, FAILED, 0, error_to_wire(error))))


class ReplyHub:
    """All ZeroMQ clients of one process, and what waits for the next flush or for them to read."""

    def __init__(self, transport: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._peers: dict[bytes, ZmqPeer] = {}
        self._dirty: list[ZmqPeer] = []
        self._waiting: list[ZmqPeer] = []
        self._retry: asyncio.TimerHandle | None = None
        self._retry_seconds = RETRY_SECONDS
        self._head = (0, 0)
        self.replies_sent = 0
        self.replies_dropped = 0
        """Replies to clients that had gone or read too slowly."""
        self.answers_dropped = 0
        """The same of other messages."""

    def __len__(self) -> int:
        return len(self._peers)

    def peer_for(self, identity: bytes) -> ZmqPeer:
        """The peer of a client; made when it is first heard of."""
        peer = self._peers.get(identity)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                del self._peers[next(iter(self._peers))]
            peer = self._peers[identity] = ZmqPeer(identity, self._dirty)
        return peer

    def send(self, identity: bytes, answer: bytes) -> bool:
        """Hand a whole message over, or keep it while its client reads too slowly. False when the client is gone.

        Such messages arrive in their order. While a client is slow they go before its replies, which may wait for them.
        """
        peer = self._peers.get(identity)
        if peer is not None and peer.waiting:
            peer.answers.append(answer)
            peer.weight += len(answer) + _REPLY_BYTES
            if peer.weight > OUTBOX_BYTES_MAX:
                self._waiting.remove(peer)
                self._drop(peer)
            return True
        try:
            if self._transport.send(identity, answer):
                return True
        except PeerGone:
            self._peers.pop(identity, None)
            self.answers_dropped += 1
            return False
        peer = self.peer_for(identity)
        if peer.outbox:
            self._dirty.remove(peer)  # it waits for the timer now, and not for the next flush
        peer.answers.append(answer)
        self._wait(peer)
        return True

    def flush(self, epoch: int, seq: int) -> None:
        """Send every reply that was released, packed per client."""
        self._head = (epoch, seq)
        dirty = self._dirty
        if dirty:
            for peer in dirty:
                self._send(peer)
            dirty.clear()

    def _send(self, peer: ZmqPeer) -> None:
        outbox = peer.outbox
        sent = 0
        try:
            while sent < len(outbox):
                end = pack_end(outbox, sent)
                if not self._transport.send(peer.identity, wire.pack_replies(*self._head, outbox[sent:end])):
                    break
                sent = end
        except PeerGone:
            self._peers.pop(peer.identity, None)
            self.replies_dropped += len(outbox) - sent
            del outbox[sent:]
        if sent:
            self._retry_seconds = RETRY_SECONDS
            self.replies_sent += sent
            peer.weight -= _weight_of(outbox[:sent]) if peer.waiting else 0
            del outbox[:sent]
        if outbox:
            self._wait(peer)
        else:
            peer.waiting = False

    def _wait(self, peer: ZmqPeer) -> None:
        if not peer.waiting:
            peer.waiting, peer.weight = True, _weight_of(peer.outbox) + _weight_of(peer.answers)
        if peer.weight > OUTBOX_BYTES_MAX:
            self._drop(peer)
            return
        self._waiting.append(peer)
        if self._retry is None:
            self._retry = self._loop.call_later(self._retry_seconds, self._offer_again)

    def _offer_again(self) -> None:
        self._retry = None
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)  # until somebody reads
        waiting, self._waiting = self._waiting, []
        for peer in waiting:
            if not peer.answers or self._send_answers(peer):
                self._send(peer)
        self._shed()

    def _send_answers(self, peer: ZmqPeer) -> bool:
        """Whether it took all of them, and replies may follow."""
        answers = peer.answers
        sent = 0
        try:
            while sent < len(answers) and self._transport.send(peer.identity, answers[sent]):
                sent += 1
        except PeerGone:
            self._peers.pop(peer.identity, None)
            del answers[:sent]
            self._drop(peer)
            return False
        if sent:
            self._retry_seconds = RETRY_SECONDS
            peer.weight -= _weight_of(answers[:sent])
            del answers[:sent]
        if answers:
            self._wait(peer)
        return not answers

    def _shed(self) -> None:
        total = sum(peer.weight for peer in self._waiting)
        if total > OUTBOXES_BYTES_MAX:
            for peer in sorted(self._waiting, key=lambda peer: peer.weight, reverse=True):
                if total <= OUTBOXES_BYTES_MAX:
                    break
                total -= peer.weight
                self._drop(peer)
            self._waiting = [peer for peer in self._waiting if peer.waiting]

    def _drop(self, peer: ZmqPeer) -> None:
        self.replies_dropped += len(peer.outbox)
        self.answers_dropped += len(peer.answers)
        peer.outbox.clear()
        peer.answers.clear()
        peer.waiting = False

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()


def _weight_of(replies: list[bytes]) -> int:
    return sum(map(len, replies)) + _REPLY_BYTES * len(replies)


def pack_end(elements: list[bytes], start: int) -> int:
    """Where a message that begins with `elements[start]` ends: PACKED_BYTES_MAX, but one element at least."""
    if len(elements) - start == 1:
        return start + 1
    if start == 0 and sum(map(len, elements)) <= PACKED_BYTES_MAX:
        return len(elements)
    size = 0
    for index in range(start, len(elements)):
        size += len(elements[index])
        if size > PACKED_BYTES_MAX:
            return max(index, start + 1)
    return len(elements)


def detached(value: Any) -> Any:
    """A value as it would arrive over the wire, sharing nothing mutable with the original.

    Raises TooLarge, and TypeError, ValueError or OverflowError for what msgpack cannot carry.
    """
    kind = type(value)
    if kind in _SMALL or (kind is int and _INT_MIN <= value <= _INT_MAX):
        return value
    encoded = _encode(value)
    if len(encoded) > RESULT_BYTES_MAX:
        raise TooLarge(f"a result of {len(encoded)} bytes is over the limit of {RESULT_BYTES_MAX}; nothing was changed")
    return value if kind in _IMMUTABLE else _decode(encoded)


class FuturePeer(Peer):
    """A caller in this process that waits for one future; `Call.id` does not matter."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def encode(self, call: Call, version: int, result: Any) -> Any:
        return detached(result)

    def put(self, call: Call, encoded: Any) -> None:
        if not self.future.done():
            self.future.set_result(encoded)

    def fail(self, call: Call, error: DurableError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
