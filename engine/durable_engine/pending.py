"""A call on its way: what the client keeps until the reply, and how it looks on the wire."""

from __future__ import annotations

import asyncio
import logging
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from durable_shards.errors import CallTimeout, HandlerFailed, InvalidArguments, Rejected
from durable_shards.signature import ResultDecoder
from durable_shards.wire import FLAG_FRESH, encode_value
from durable_storage.address import Address, id_problem, name_problem, partition_of
from durable_storage.errors import DurableError, PersistenceFailed, TooLarge
from durable_storage.limits import ARGUMENTS_BYTES_MAX, ID_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX

_logger = logging.getLogger(__name__)
_decode: Final = msgspec.msgpack.Decoder().decode
UNSENDABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What encoding raises for a value that msgpack cannot carry."""
# Positions in the array of a call (`durable_shards.wire.Call`).
_TIMEOUT: Final = 5
_FLAGS: Final = 9


class Target(NamedTuple):
    """A checked address and its partition."""

    prefix: str
    object_type: str
    object_id: str
    partition: int

    @property
    def address(self) -> Address:
        """Without the partition."""
        return Address(self.prefix, self.object_type, self.object_id)

    def __str__(self) -> str:
        return str(self.address)


@lru_cache(maxsize=32_768)
def make_target(prefix: str, object_type: str, object_id: str) -> Target:
    """Check an address before anything is sent. Raises TooLarge and InvalidArguments."""
    _check(id_problem(object_id), object_id, ID_BYTES_MAX)
    _check(name_problem("class name", object_type), object_type, NAME_BYTES_MAX)
    check_prefix(prefix)
    return Target(prefix, object_type, object_id, partition_of(prefix, object_type, object_id))


def check_prefix(prefix: str) -> None:
    """Raises TooLarge and InvalidArguments. The empty one is the default tenant; 0 or b"" is a mistake."""
    if prefix != "":
        _check(name_problem("prefix", prefix), prefix, NAME_BYTES_MAX)


def target_of(prefix: str, object_type: str, object_id: str) -> Target:
    """`make_target`, for callers who may pass anything."""
    try:
        return make_target(prefix, object_type, object_id)
    except TypeError:  # unhashable, so no str
        wrong = next(part for part in (object_id, object_type, prefix) if type(part) is not str)
        raise InvalidArguments(f"an address is made of str: prefix, class and id, not {type(wrong).__name__}") from None


def check_key(key: str) -> None:
    """Raises TooLarge and InvalidArguments."""
    if type(key) is not str or not key:
        raise InvalidArguments("idempotency_key must be a str of at least one character")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidArguments("idempotency_key must be valid Unicode text without lone surrogates") from None
    if size > KEY_BYTES_MAX:
        raise TooLarge(f"idempotency_key is {size} bytes of UTF-8, more than the {KEY_BYTES_MAX} allowed")


def _check(problem: str | None, text: Any, bytes_max: int) -> None:
    if problem is None:
        return
    if type(text) is str and len(text.encode(errors="surrogatepass")) > bytes_max:
        raise TooLarge(problem)
    raise InvalidArguments(problem)


class Pending(msgspec.Struct, gc=False):
    """A call that was made and not answered. (A struct: a third of the cost of a plain object to make.)"""

    id: int
    encoded: bytes
    future: asyncio.Future[Any]
    deadline: float
    """On the loop's clock."""
    target: Target
    handler: str
    decode: ResultDecoder | None
    keyed: bool
    """Carries an idempotency key, so it may be sent again whatever became of it."""
    one_way: bool = False
    repeated: bool = False
    """May have run before: its key is no longer fresh."""

    def renewed(self, now: float) -> bytes:
        """The call as it is to be sent (again) now: the time left is less."""
        call = _decode(self.encoded)
        call[_TIMEOUT] = max(1, int((self.deadline - now) * 1000))
        if self.repeated and len(call) > _FLAGS:
            call[_FLAGS] &= ~FLAG_FRESH
        return encode_value(call)

    def resolve(self, value: Any) -> None:
        """End the call with a result, decoded where somebody knows how."""
        if self.decode is not None:
            try:
                value = self.decode(value)
            except Exception:
                # A class of the user's own that takes no such value. The turn is committed: give what came.
                _logger.warning("the result of %s does not fit its annotation", self, exc_info=True)
        self.future.set_result(value)

    def __str__(self) -> str:
        return f"{self.target}.{self.handler}"


def timed_out(call: Pending) -> CallTimeout:
    """The error of a call that was handed over and not answered in time."""
    hint = "ask again with the same key" if call.keyed else "read the state, or give calls an idempotency_key"
    said = f"{call} was not answered within its timeout; whether it ran is unknown: {hint}"
    return CallTimeout(said, retryable=call.keyed)


def of_a_repetition(error: DurableError) -> DurableError:
    """The error that answered a call which may have run before. What refused it now says nothing of that.

    Only a turn looks its key up first: that it ran, and failed, shows that no earlier one came to a good end.
    """
    if error.outcome == "not_applied" and not isinstance(error, (Rejected, HandlerFailed, PersistenceFailed)):
        error.outcome = "unknown"
        error.args = (f"{error.message} (this was the answer to a repetition; whether the call ran before is unknown)",)
    return error


def encode_call(
    number: int,
    target: Target,
    handler: str,
    args: Any,
    timeout_ms: int,
    kwargs: dict[str, Any] | None,
    key: str | None,
    flags: int,
    chain: list[str] | None,
    trace: dict[str, str] | None,
) -> bytes:
    """One element of a CALLS message, trailing defaults left out. Raises InvalidArguments and TooLarge."""
    prefix, object_type, object_id, _ = target
    try:
        if key is None and not flags and chain is None and trace is None:
            call: Any = (number, object_type, object_id, handler, args, timeout_ms)
            if prefix or kwargs:
                call = (*call, kwargs or None, prefix)
            encoded = encode_value(call)
        else:
            call = (
                number,
                object_type,
                object_id,
                handler,
                args,
                timeout_ms,
                kwargs or None,
                prefix,
                key,
                flags,
                chain,
                trace,
            )
            encoded = encode_value(call if trace or chain else call[:10])
    except UNSENDABLE as error:
        raise InvalidArguments(_argument_problem(target, handler, args, kwargs, error)) from None
    if len(encoded) > ARGUMENTS_BYTES_MAX:
        raise TooLarge(
            f"the arguments of {target.object_type}.{handler} are {len(encoded)} bytes encoded, more than the "
            f"{ARGUMENTS_BYTES_MAX} allowed; nothing was sent"
        )
    return encoded


def _argument_problem(target: Target, handler: str, args: Any, kwargs: dict[str, Any] | None, error: Exception) -> str:
    named = [(f"argument {index + 1}", value) for index, value in enumerate(args)]
    named += [(f"argument {name!r}", value) for name, value in (kwargs or {}).items()]
    where = "an argument"
    for name, value in named:
        try:
            encode_value(value)
        except UNSENDABLE:
            where = name
            break
    return f"{where} of {target.object_type}.{handler} cannot be sent: {error}; nothing was sent"
