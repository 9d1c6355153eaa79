"""The frames that clients and shards exchange: msgpack behind two header bytes. `docs/protocol.md` is the full text.

Many calls travel in one ZeroMQ message, and so do many replies: packing all calls of one loop tick costs about a
microsecond a call where a message each costs thirty (`docs/decisions/sockets.md`). A call decodes straight into a
`Call`; a frame that does not fit is decoded again element by element, so that one broken call never takes its
neighbours with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final

import msgspec

from durable_storage.errors import DurableError
from durable_storage.limits import MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX

VERSION: Final = 1
"""First byte of every message. A server answers a message of another version with an ERROR frame of its own."""

HELLO: Final = 1
WELCOME: Final = 2
CALLS: Final = 3
REPLIES: Final = 4
REQUEST: Final = 5
RESPONSE: Final = 6
ERROR: Final = 7

FLAG_FRESH: Final = 1
"""First attempt with this idempotency key: no stored result can exist, so none is looked up."""
FLAG_AUTO_KEY: Final = 2
"""The key was made by the client library, not by a user: a call that changed nothing stores no result."""
FLAG_ONE_WAY: Final = 4
"""No reply is wanted."""
FLAG_REACHED_OUT: Final = 1 << 30
"""Never on the wire: the call's turn has called another object without a key, so it must not be run again unasked."""

SEQ_MAX: Final = 1 << 53
"""Commits that no shard ever reaches; a number above it is none, and would leave the store no room to count on."""

OK: Final = 0
FAILED: Final = 1


class Peer(ABC):
    """Where the outcome of a call goes. Implementations: a ZeroMQ client, the embedding program, another object."""

    reruns: ClassVar[bool] = True
    """Whether a call of this peer may be run again by the shard after its turn was undone unseen."""

    @abstractmethod
    def encode(self, call: Call, version: int, result: Any) -> Any:
        """Turn a result into something that no longer aliases the object's state.

        Runs inside the turn, before the commit, so that a result which cannot be encoded undoes the turn.
        """

    @abstractmethod
    def put(self, call: Call, encoded: Any) -> None:
        """Release an encoded result; the peer's outbox leaves with the shard's next flush."""

    @abstractmethod
    def fail(self, call: Call, error: DurableError) -> None:
        """Release an error."""


class Call(msgspec.Struct, array_like=True, gc=False):
    """One call on the wire, an array in this order; trailing elements may be absent."""

    id: int
    """Chosen by the client, unique among its calls in flight; strictly increasing."""
    object_type: str
    object_id: str
    handler: str
    args: list[Any] = []
    timeout_ms: int = 5000
    """Time left until the caller's deadline when the message was sent."""
    kwargs: dict[str, Any] | None = None
    prefix: str = ""
    key: str | None = None
    flags: int = 0
    chain: list[str] | None = None
    """Addresses (as text) of the objects whose turns wait for this call, outermost first."""
    trace: dict[str, str] | None = None
    """Context of a distributed trace (W3C `traceparent`, `tracestate`)."""
    # Not on the wire: no wire value passes for a Peer, so a decoded call has none.
    peer: Peer | None = None
    deadline: float = 0.0
    """On the shard's monotonic clock, in seconds; set when it is received."""
    fingerprint: int = 0
    """Of handler and arguments, for calls with a key; set before the turn."""


_CALL_ELEMENTS: Final = 12
"""Of a call on the wire. What a later release sends behind them must not be taken for the fields that are not."""


class Reply(msgspec.Struct, array_like=True, gc=False):
    """One reply on the wire: `value` is the result, or an error map when `status` is FAILED."""

    id: int
    status: int
    version: int
    """The object's version after the turn; 0 when it was not reached."""
    value: Any = None


class Replies(msgspec.Struct, array_like=True, gc=False):
    """Body of a REPLIES message: who answered, under which ownership, and up to which commit."""

    epoch: int
    seq: int
    replies: list[Reply]


class Request(msgspec.Struct, array_like=True):
    """Body of a REQUEST message: something asked of a process, not of an object."""

    id: int
    op: str
    arguments: dict[str, Any] = {}


class Response(msgspec.Struct, array_like=True):
    """Body of a RESPONSE message."""

    id: int
    status: int
    value: Any = None


class ShardRoute(msgspec.Struct):
    """One line of the routing table. `endpoint` is empty while the shard is not up."""

    shard: int
    endpoint: str
    epoch: int
    partitions: tuple[int, int]
    """Half-open range."""
    state: str
    pid: int = 0


class RoutingTable(msgspec.Struct):
    """Body of a WELCOME message. A higher `version` of the same `server` replaces a lower one."""

    server: str
    """Identity of the supervisor's incarnation."""
    version: int
    partitions: int
    shards: list[ShardRoute]
    release: str = ""


_Count = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


class Hello(msgspec.Struct):
    """Body of a HELLO message: asks for the routing table when it is newer than `known`."""

    server: str = ""
    known: int = 0
    acknowledged: dict[int, tuple[_Count, _Count]] = {}
    """Per shard the highest (epoch, seq) this client was ever answered with."""


class ProtocolError(ValueError):
    """A message that does not follow the protocol."""


_encoder: Final = msgspec.msgpack.Encoder()
_calls: Final = msgspec.msgpack.Decoder(list[Call])
_call: Final = msgspec.msgpack.Decoder(Call)
_anything: Final = msgspec.msgpack.Decoder()
_bodies: Final[dict[int, msgspec.msgpack.Decoder[Any]]] = {
    HELLO: msgspec.msgpack.Decoder(Hello),
    WELCOME: msgspec.msgpack.Decoder(RoutingTable),
    REPLIES: msgspec.msgpack.Decoder(Replies),
    REQUEST: msgspec.msgpack.Decoder(Request),
    RESPONSE: msgspec.msgpack.Decoder(Response),
    ERROR: msgspec.msgpack.Decoder(str),
}

encode_value = _encoder.encode


def pack(kind: int, body: Any) -> bytes:
    """A whole message."""
    return bytes((VERSION, kind)) + _encoder.encode(body)


def array_header(length: int) -> bytes:
    """The msgpack header of an array, so that pre-encoded elements can be joined behind it."""
    if length < 16:
        return bytes((0x90 | length,))
    if length < 1 << 16:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")


def pack_calls(calls: Sequence[bytes]) -> bytes:
    """A CALLS message from calls that are encoded already."""
    return bytes((VERSION, CALLS)) + array_header(len(calls)) + b"".join(calls)


def pack_replies(epoch: int, seq: int, replies: Sequence[bytes]) -> bytes:
    """A REPLIES message from replies that are encoded already."""
    head = bytes((VERSION, REPLIES)) + b"\x93" + _encoder.encode(epoch) + _encoder.encode(seq)
    return head + array_header(len(replies)) + b"".join(replies)


def kind_of(message: bytes) -> int:
    """The kind of a message. Raises ProtocolError on an empty or foreign one."""
    if len(message) < 2:
        raise ProtocolError("a message is at least two bytes: protocol version and kind")
    if message[0] != VERSION:
        raise ProtocolError(f"this side speaks protocol version {VERSION}, the message says {message[0]}")
    return message[1]


def kind_for_server(message: bytes) -> int:
    """The kind of a message to a server. Raises ProtocolError, also when it is larger than its kind may be."""
    kind = kind_of(message)
    limit = MESSAGE_BYTES_MAX if kind == CALLS else REQUEST_BYTES_MAX
    if len(message) > limit:
        raise ProtocolError(f"a message of {len(message)} bytes is over the limit of {limit} for kind {kind}")
    return kind


def unpack(message: bytes) -> Any:
    """The body of any message but CALLS, typed by its kind. Raises ProtocolError."""
    kind = kind_of(message)
    decoder = _bodies.get(kind)
    if decoder is None:
        raise ProtocolError(f"unknown message kind {kind}")
    try:
        return decoder.decode(memoryview(message)[2:])
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"malformed body of a message of kind {kind}: {error}") from None


def unpack_call(encoded: bytes) -> Call:
    """One element of a CALLS message that this library encoded itself."""
    return _call.decode(encoded)


class BrokenCall(msgspec.Struct):
    """An element of a CALLS message that is no call. `id` is None when not even that could be read."""

    id: int | None
    problem: str


def unpack_calls(message: bytes) -> tuple[list[Call], list[BrokenCall]]:
    """The calls of a CALLS message, and what of it was no call. Raises ProtocolError when it is no array at all."""
    body = memoryview(message)[2:]
    try:
        return _calls.decode(body), []
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        first = error
    try:
        elements = _anything.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, RecursionError):
        raise ProtocolError(f"malformed CALLS message: {first}") from None
    if not isinstance(elements, list):
        raise ProtocolError("the body of a CALLS message must be an array of calls")
    calls: list[Call] = []
    broken: list[BrokenCall] = []
    for element in elements:
        try:
            known = element[:_CALL_ELEMENTS] if type(element) is list else element
            calls.append(msgspec.convert(known, Call))
        except (msgspec.MsgspecError, RecursionError) as error:
            has_id = isinstance(element, list) and element and type(element[0]) is int
            broken.append(BrokenCall(element[0] if has_id else None, str(error)))
    return calls, broken
