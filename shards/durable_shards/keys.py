"""Idempotency keys: the first result is stored with the state it made, and every retry hears it.

The row with the result is part of the same commit as the state. A key that its caller says is fresh is not looked
up: should it exist after all, the store refuses the second row, the turn is undone before anybody heard of it,
and the call runs again as the retry it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import msgspec

from durable_shards.activation import Activation, KeyMemory
from durable_shards.clock import Clock
from durable_shards.errors import IdempotencyMismatch
from durable_shards.gate import Gate
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_FRESH, Call, encode_value
from durable_storage.errors import TooLarge
from durable_storage.limits import KEY_BYTES_MAX
from durable_storage.store import ResultRow

TIMEOUT_MILLISECONDS_MAX: Final = 24 * 3600 * 1000
"""No client waits longer; what says so all the same has its result kept no longer."""

_decode = msgspec.msgpack.Decoder().decode


class Keys:
    """What a shard does about calls that carry a key."""

    def __init__(
        self,
        gate: Gate,
        clock: Clock,
        *,
        retention: timedelta,
        auto_retention: timedelta,
        look_up: Callable[[Activation, Call], None],
        run: Callable[[Activation, Call], None],
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._look_up = look_up
        self._run = run
        self._kept_for = (retention, auto_retention)
        self._timeout_ms_usual = int(min(self._kept_for).total_seconds() * 1000)
        """Nobody who waits no longer than this sends his call again when its result is gone."""
        self._expiries_at = gate.now
        self._expiries = self._expiries_now()
        """When what is stored now expires: results of a user's keys, and of those that clients make."""

    def first_time(self, act: Activation, call: Call) -> bool:
        """Whether the call is to be run now; if not, it was answered or waits for a look-up."""
        assert call.key is not None
        if not 0 < len(call.key.encode(errors="surrogatepass")) <= KEY_BYTES_MAX:
            self._gate.refuse(call, TooLarge(f"an idempotency key has 1 to {KEY_BYTES_MAX} bytes of UTF-8"))
            return False
        call.fingerprint = fingerprint(call)  # now: the handler may change its arguments
        memory = act.keys.get(call.key) if act.keys is not None else None
        if memory is not None:
            self._answer_again(act, call, memory)
            return False
        if call.flags & FLAG_FRESH:
            return True
        act.head = call
        self._look_up(act, call)
        return False

    def looked_up(self, act: Activation, call: Call, row: ResultRow | None) -> None:
        """Go on with a call whose key was looked up in the store."""
        if act.head is not call:
            return  # put back behind calls that run again; its turn, and its look-up, come once more
        act.head = None
        if row is not None:
            self._answer_again(act, call, KeyMemory(row.fingerprint, row.result))
        else:
            call.flags |= FLAG_FRESH
            self._run(act, call)

    def row(self, call: Call, result: Any) -> ResultRow:
        """The row that lets a retry hear this result, for as long as its caller may still send the call again."""
        assert call.key is not None
        if self._expiries_at != self._gate.now:  # once per batch of work, not per call
            self._expiries_at = self._gate.now
            self._expiries = self._expiries_now()
        kind = 1 if call.flags & FLAG_AUTO_KEY else 0
        expires_at = self._expiries[kind]
        if call.timeout_ms > self._timeout_ms_usual:
            time_left = timedelta(milliseconds=min(call.timeout_ms, TIMEOUT_MILLISECONDS_MAX))
            expires_at = max(expires_at, self._clock.now() + time_left)
        return ResultRow(call.key, call.fingerprint, encode_value(result), expires_at)

    def _expiries_now(self) -> tuple[datetime, datetime]:
        now = self._clock.now()
        of_users, of_clients = self._kept_for
        return now + of_users, now + of_clients

    def _answer_again(self, act: Activation, call: Call, memory: KeyMemory) -> None:
        assert call.peer is not None
        if memory.fingerprint != call.fingerprint:
            problem = f"the idempotency key {call.key!r} was used for another call; nothing was run"
            self._gate.answer(act, call, IdempotencyMismatch(problem))
            return
        try:
            outcome = call.peer.encode(call, act.version, _decode(memory.result))
        except Exception as error:
            outcome = TooLarge(f"the stored result fits no reply: {error}", outcome="applied")
        self._gate.answer(act, call, outcome)


def remember(act: Activation, row: ResultRow) -> None:
    """Keep a result at hand for a quick retry; trimmed when its commit is done."""
    keys = act.keys
    if keys is None:
        keys = act.keys = {}
    keys[row.key] = KeyMemory(row.fingerprint, row.result)


def fingerprint(call: Call) -> int:
    """64 bits that tell calls with other arguments apart; 0 for keys that a client's library made for one call.

    Keys that an object's call derives from its own caller's are checked: a turn that runs again may call otherwise.
    """
    if call.flags & FLAG_AUTO_KEY and not call.chain:
        return 0
    digest = blake2b(encode_value((call.handler, call.args, call.kwargs or {})), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
