"""The calls of one client to one shard, and the connection they travel on.

A link outlives its connections. What it knows of each call decides what happens when one breaks: a call in `unsent`
was certainly never handed over and simply waits for the next connection; one in `in_flight` may have run, so it is
sent again only if it carries an idempotency key. A shard that refuses a call (`NotOwner`) has certainly not run it,
and will refuse all later ones for that partition too: the link holds everything until the routes are known
anew. Calls are sent, and sent again, in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from durable_engine.asking import Asker
from durable_engine.pending import Pending, of_a_repetition, timed_out
from durable_engine.route import Route
from durable_shards import wire
from durable_shards.errors import CallTimeout, EngineClosed, error_from_wire
from durable_shards.network import Connection
from durable_shards.peers import pack_end
from durable_storage.errors import DurableError, Unavailable

if TYPE_CHECKING:
    from durable_engine.frontend import Frontend

RETIRE_SECONDS: Final = 1.0
"""How long replies of a shard that was replaced are waited for while its connection still stands."""
RECONNECT_SECONDS: Final = 0.25
"""Longer than it takes to hear that a connection broke: what ZeroMQ still holds then is thrown away, since
delivered by a new connection it would overtake the calls that were lost with the old one."""
LINGER_SECONDS: Final = 0.5
UNBLOCK_SECONDS_MIN: Final = 0.01
UNBLOCK_SECONDS_MAX: Final = 0.5

_logger = logging.getLogger(__name__)


class Link:
    """One per shard number and frontend."""

    def __init__(self, frontend: Frontend, shard: int) -> None:
        self.shard = shard
        self.unsent: dict[int, Pending] = {}
        self.in_flight: dict[int, Pending] = {}
        self.epoch = 0
        """Highest epoch this shard ever answered with, and the highest commit of that epoch."""
        self.seq = 0
        self.has_one_way = False
        self._frontend = frontend
        self._loop = frontend.loop
        self._wanted: Route | None = None
        self._route: Route | None = None
        self._transport: Connection | None = None
        self._stale = False
        """`unsent` holds calls of an earlier tick: to be sorted and stamped with the time left."""
        self.blocked = False
        """The shard refused a call, and the routes were not told anew since."""
        self._unblock_seconds = UNBLOCK_SECONDS_MIN
        self._retire: asyncio.TimerHandle | None = None
        self.asker = Asker(f"shard {shard}", self._send, self._loop)

    # Following the routing table.

    def follow(self, route: Route | None, state: str) -> None:
        """Go where the table says. The old connection is kept while it may still bring replies."""
        self._wanted = route
        if route == self._route:
            self._cancel_retirement()
            return
        if self._transport is None or not self.in_flight:
            self._reconnect()
        elif state != "draining" and self._retire is None:
            self._retire = self._loop.call_later(RETIRE_SECONDS, self._lost)

    def forget_epoch(self) -> None:
        """The server is another one than before: its epochs may have begun anew."""
        self.epoch = self.seq = 0

    def unblock(self) -> None:
        """The routes were asked for again: try again, a little later each time."""
        if self.blocked:
            self._loop.call_later(self._unblock_seconds, self._unblock_now)
            self._unblock_seconds = min(2 * self._unblock_seconds, UNBLOCK_SECONDS_MAX)

    def _unblock_now(self) -> None:
        self.blocked = False
        self._frontend.rehome(self)
        self._frontend.flush_soon()

    # The connection.

    @property
    def held(self) -> bool:
        """Whether new calls have to wait."""
        transport = self._transport
        return self.blocked or self._route != self._wanted or transport is None or not transport.connected

    def _reconnect(self) -> None:
        """Leave the connection, if any, and open one to the route that the table wants."""
        self._cancel_retirement()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
            self.asker.lost()
        self._stale = True
        self.blocked = False
        self._route = self._wanted
        if self._route is not None:
            try:
                self._transport = self._connect(self._route.endpoint)
            except ValueError as error:
                self._frontend.malformed("the server", error)

    def _connect(self, endpoint: str) -> Connection:
        return self._frontend.network.dial(
            endpoint,
            self._on_message,
            self._loop,
            on_connected=self._frontend.flush_soon,
            on_disconnected=self._lost,
            on_writable=self._frontend.flush_soon,
            reconnect_seconds=RECONNECT_SECONDS,
        )

    def _cancel_retirement(self) -> None:
        if self._retire is not None:
            self._retire.cancel()
            self._retire = None

    def _lost(self) -> None:
        """The connection broke or is given up: settle what was in it, and open another."""
        if self._transport is not None:
            self._transport.read_all()
        in_flight, self.in_flight = self.in_flight, {}
        self._reconnect()
        for number, call in in_flight.items():
            if call.keyed:
                call.repeated = True
                self.unsent[number] = call
            else:
                self._fail(
                    call,
                    Unavailable(
                        f"the connection to shard {self.shard} broke before it answered {call}; whether the call ran "
                        "is unknown. Read the state and decide, or give calls an idempotency_key, or the engine "
                        "exactly_once=True",
                        outcome="unknown",
                    ),
                )
        self._frontend.rehome(self)
        self._frontend.refresh_routes()
        self._frontend.flush_soon()

    def close(self, error: DurableError) -> None:
        """Fail all calls. What was handed over still leaves: one-way calls have no other moment."""
        self._cancel_retirement()
        if self._transport is not None:
            self._transport.close(LINGER_SECONDS if self._transport.connected else 0)
            self._transport = None
        for call in (*self.in_flight.values(), *self.unsent.values()):
            never_sent = call.id in self.unsent and not call.repeated
            self._fail(call, EngineClosed("the engine was closed; the call was not sent") if never_sent else error)
        self.in_flight.clear()
        self.unsent.clear()
        self.asker.fail_all(error)

    def expire(self, now: float) -> float:
        """Fail the calls whose deadline has passed. Returns the earliest deadline of the others."""
        earliest = float("inf")
        for calls in (self.in_flight, self.unsent):
            late = [call for call in calls.values() if call.deadline <= now]
            for call in late:
                del calls[call.id]
                if calls is self.in_flight or call.repeated:
                    self._fail(call, timed_out(call))
                else:
                    self._fail(call, self._never_sent(call))
            earliest = min(earliest, min((call.deadline for call in calls.values()), default=earliest))
        return earliest

    def _never_sent(self, call: Pending) -> DurableError:
        if not self.held:
            return CallTimeout(f"{call} was not sent within its timeout; nothing was run", outcome="not_applied")
        where = f"at {self._wanted.endpoint}" if self._wanted is not None else "which is not up"
        return Unavailable(
            f"no answer for {call} within its timeout from shard {self.shard} {where}; nothing was run. "
            "See `durable-engine status`, and call again when the shard is up"
        )

    # Sending.

    def _send(self, message: bytes) -> bool:
        return self._transport is not None and self._transport.send(message)

    def flush(self) -> None:
        """Send all calls made since the last flush, packed."""
        if self.held:
            self._stale = True
            return
        if self._stale:
            self._freshen()
        unsent = self.unsent
        encoded = [call.encoded for call in unsent.values()]
        sent = 0
        while sent < len(encoded):
            end = pack_end(encoded, sent)
            if not self._send(wire.pack_calls(encoded[sent:end])):
                self._stale = True
                break
            sent = end
        if sent == len(encoded):
            self.in_flight.update(unsent)
            unsent.clear()
        else:
            for number in list(unsent)[:sent]:
                self.in_flight[number] = unsent.pop(number)
        if self.has_one_way:
            self._settle_one_way()

    def take(self, call: Pending) -> None:
        """A call that another link could not send."""
        self.unsent[call.id] = call
        self._stale = True
        self.has_one_way |= call.one_way

    def _freshen(self) -> None:
        """Bring calls that had to wait into order and up to date; nobody waits for the cancelled ones."""
        self._stale = False
        now = self._loop.time()
        waiting = [call for call in self.unsent.values() if not call.future.done()]
        waiting.sort(key=lambda call: call.id)
        for call in waiting:
            call.encoded = call.renewed(now)
        self.unsent = {call.id: call for call in waiting}

    def _settle_one_way(self) -> None:
        self.has_one_way = False
        for number in [number for number, call in self.in_flight.items() if call.one_way]:
            call = self.in_flight.pop(number)
            if not call.future.done():
                call.future.set_result(None)
        self.has_one_way = any(call.one_way for call in self.unsent.values())

    # Receiving.

    def _on_message(self, message: bytes) -> None:
        try:
            body = wire.unpack(message)
        except wire.ProtocolError as error:
            self._frontend.malformed(f"shard {self.shard}", error)
            return
        if type(body) is wire.Replies:
            self._on_replies(body)
        elif type(body) is wire.Response:
            if not self.asker.on_response(body):
                self._frontend.counts.late += 1
        else:
            self._frontend.malformed(f"shard {self.shard}", body)

    def _on_replies(self, body: wire.Replies) -> None:
        counts = self._frontend.counts
        if body.epoch < self.epoch:
            counts.stale += len(body.replies)
            return
        if body.epoch > self.epoch or body.seq > self.seq:
            self.epoch, self.seq = body.epoch, body.seq
        counts.replies += len(body.replies)
        pop = self.in_flight.pop
        for reply in body.replies:
            call = pop(reply.id, None)
            if call is None:
                counts.late += 1
            elif reply.status != wire.OK:
                self._on_error(call, reply.value)
            elif not (future := call.future).done():
                value = reply.value
                if (decode := call.decode) is None or type(value) in decode.kinds:
                    future.set_result(value)
                else:
                    call.resolve(value)
        # Right behind the callers that were just woken, in the same turn of the loop: their next calls leave at once.
        self._frontend.flush_soon()
        if not self.in_flight and self._route != self._wanted:
            self._loop.call_soon(self._leave)  # that was the last reply the old connection was kept for

    def _leave(self) -> None:
        if not self.in_flight and self._route != self._wanted:
            self._lost()

    def _on_error(self, call: Pending, value: Any) -> None:
        if type(value) is dict and value.get("type") == "NotOwner":
            self.unsent[call.id] = call
            self._stale = True
            self._frontend.counts.refused += 1
            if not self.blocked:
                self.blocked = True
                self._frontend.refresh_routes()
            return
        try:
            error = error_from_wire(value)
        except Exception:
            self._frontend.malformed(f"shard {self.shard}", value)
            error = DurableError(f"the shard answered {call} with an error that cannot be read", outcome="unknown")
        self._fail(call, of_a_repetition(error) if call.repeated else error)

    def _fail(self, call: Pending, error: DurableError) -> None:
        self._frontend.counts.errors += 1
        if not call.future.done():
            call.future.set_exception(error)
