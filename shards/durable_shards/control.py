"""What a supervisor and its shards say to each other, and the channel it travels on.

The channel is a pair of unix sockets of type SEQPACKET: messages keep their borders, arrive in order or not
at all, and the end of one side is seen by the other at once. Nothing of a call passes here.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from durable_shards.alarm_settings import AlarmSettings
from durable_shards.wire import RoutingTable

EXIT_DRAINED: Final = 0
EXIT_FAILED: Final = 70
"""The shard could not start; it has said why in a `Failed` message."""
EXIT_FENCED: Final = 71
"""The shard lost its ownership and stopped without a word to anybody."""

MESSAGE_BYTES_MAX: Final = 128 * 1024
"""Of one control message; below the default socket buffer of Linux."""
_WAITING_MAX: Final = 1024
"""Messages kept for a shard that does not read: one that is stuck is killed by the watchdog long before."""


class ShardConfig(msgspec.Struct, frozen=True):
    """All that a shard process must know to start. It does not say who started it, nor why."""

    shard: int
    shards: int
    store: str
    """URL, see `durable_storage.urls`."""
    partitions: tuple[int, int]
    """Half-open range."""
    node: str
    bind: str
    """Where the shard listens: an ipc endpoint, or `tcp://HOST:*` for a port of the system's choice."""
    supervisor: str
    """Public address: from where the objects of this shard learn the way to those of other shards."""
    term: int | None = None
    """The supervisor's: the store is not opened once another one rules it."""
    acknowledged_seq: int | None = None
    accept_data_loss: bool = False
    parked: tuple[str, ...] = ()
    """Addresses of objects that are not served."""
    memory_bytes: int | None = None
    """Budget for live objects; the longest idle go first. None: the shard's default."""
    process_bytes: int | None = None
    """What this process may take altogether. None: what the machine has."""
    alarms: AlarmSettings = AlarmSettings()
    strict_readonly: bool = False
    """Check that readonly handlers change nothing."""
    log_level: str = "INFO"
    stands_by: bool = False
    """Another process of this shard serves still: touch nothing before `Begin`."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a newly forked shard process has in its hands."""

    config: ShardConfig
    control: socket.socket
    """The channel to the supervisor."""
    page: memoryview
    """See `board`."""
    dump: int
    """Descriptor of the file that stacks are dumped into."""
    registry: Any
    """The user's classes, a `registry.Registry`, imported by the process it was forked from."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: the store is open and the socket bound."""

    endpoint: str
    epoch: int
    seq: int


class StandsBy(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: everything that can be done before `Begin` is done."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: the shard cannot start, and exits."""

    error: dict[str, Any]
    """Error map of the protocol."""
    traceback: str


class FencedOff(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: the ownership is lost; the shard exits."""

    message: str


class EpochChanged(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: an unknown outcome was resolved by bumping the shard's own epoch."""

    epoch: int


class Drained(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: all work of its own is done. Until `Finish` it still serves objects that others wait for."""


class Sealed(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: all work is committed, and nothing will be run here again: the successor may begin."""


class Unparked(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: somebody asked that this object be served again."""

    address: str


class Answer(msgspec.Struct, tag=True, frozen=True):
    """Shard → supervisor: the answer to an `Ask`."""

    id: int
    value: Any


class Begin(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → a shard that stands by: the process before has sealed itself or is dead; open the store."""

    acknowledged_seq: int | None
    parked: tuple[str, ...]


class Ask(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → shard: one of the shard's requests (`statistics`, `ping`)."""

    id: int
    op: str
    arguments: dict[str, Any] = {}


class Routes(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → shard: the routing table changed."""

    table: RoutingTable


class Park(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → shard: these objects are not served until they are unparked."""

    addresses: tuple[str, ...]


class Drain(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → shard: take no new calls, finish what runs, answer, exit."""

    seconds: float
    hands_over: bool = False
    """Another process stands by: seal the shard when it is drained, and show clients the way for a while."""


class Finish(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → shard: nobody needs a drained or sealed shard any more; exit."""


FromShard = StandsBy | Ready | Failed | FencedOff | EpochChanged | Drained | Sealed | Unparked | Answer
ToShard = Begin | Ask | Routes | Park | Drain | Finish
Message = FromShard | ToShard

_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


class Channel:
    """One end of a control channel on an asyncio loop. Sending never blocks and never fails."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        on_message: Callable[[Any], None],
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop
        self._on_message = on_message
        self._on_close = on_close
        self._waiting: deque[bytes] = deque()
        self._open = True
        loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Message) -> None:
        """Queue a message; one for a peer that is gone, or has stopped reading, is dropped."""
        data = _encode(message)
        assert len(data) <= MESSAGE_BYTES_MAX, f"a {type(message).__name__} of {len(data)} bytes"
        if not self._open or len(self._waiting) >= _WAITING_MAX:
            return
        self._waiting.append(data)
        if len(self._waiting) == 1:
            self._flush()

    def close(self) -> None:
        """Stop listening and close the socket. `on_close` is not called."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        while self._open:
            try:
                data = self._socket.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                self._on_close()
                return
            self._on_message(_decoder.decode(data))

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                self._waiting.clear()  # the reader sees the end of the channel
                break
            self._waiting.popleft()
        self._loop.remove_writer(self._socket.fileno())
