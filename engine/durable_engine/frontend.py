"""The client side of the engine: calls go in, futures come out.

One frontend serves one event loop and one server. A call is encoded at once and costs one plain future: no task, no
timer, no lock. All calls of a loop tick leave in one message per shard, and their replies come back the same way.
Deadlines are looked at together: nothing is armed per call but the earliest deadline of all.

Which shard a call goes to is the routing table's to say (`route`), what becomes of it when connections break is
decided in `link`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from typing import Any, Final

from durable_engine.asking import Asker
from durable_engine.link import Link
from durable_engine.pending import UNSENDABLE, Pending, Target, check_key, encode_call, target_of
from durable_engine.route import RouteMap
from durable_engine.sweeper import NEVER, Sweeper
from durable_engine.timeouts import CALL_TIMEOUT_SECONDS, TIMEOUT_SECONDS_MAX, checked_timeout
from durable_engine.views import ClientStatistics
from durable_shards import wire
from durable_shards.errors import EngineClosed, Overloaded, ProtocolProblem
from durable_shards.network import Network, ZmqNetwork
from durable_shards.signature import ResultDecoder
from durable_shards.wire import FLAG_AUTO_KEY, FLAG_ONE_WAY, RoutingTable, encode_value
from durable_storage.errors import Unavailable
from durable_storage.limits import ARGUMENTS_BYTES_MAX

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
"""How long an engine that closes its own server lets it answer first; then the server drains."""
HELLO_SECONDS: Final = 1.0
"""Heartbeat towards the server."""
UNSENT_MAX: Final = 100_000
"""Calls that may wait in this client for one shard; beyond it they are refused."""
GREETING_SECONDS: Final = 0.05
"""The same while nobody has answered yet."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What a frontend has seen since it was made."""

    replies: int = 0
    errors: int = 0
    """Error replies and calls that were given up."""
    refused: int = 0
    """Calls refused by a shard that does not own their partition, and sent again elsewhere."""
    late: int = 0
    """Replies to calls that nobody waits for any more."""
    stale: int = 0
    """Replies of an ownership that has ended; dropped."""
    malformed: int = 0
    """Messages that do not follow the protocol; dropped."""


class Frontend:
    """Made by `Frontend.connect`; belongs to the running event loop."""

    def __init__(
        self, url: str, loop: asyncio.AbstractEventLoop, *, for_turns: bool = False, network: Network | None = None
    ) -> None:
        self.url = url
        self.loop = loop
        self.counts = Counts()
        self.network: Network = network or ZmqNetwork()
        self.closed = False
        self.routes = RouteMap(url, for_turns=for_turns)
        self._links: dict[int, Link] = {}
        self._by_partition: list[Link] = []
        self._last_id = 0
        self._flush_scheduled = False
        self._now = 0.0
        """When the flush was scheduled: the time of every call of this tick."""
        self._sweeper = Sweeper(loop, self._expire)
        self._create_future = loop.create_future
        self._greeter: asyncio.TimerHandle | None = None
        self._welcomed: asyncio.Future[None] = loop.create_future()
        try:
            self._control = self.network.dial(
                url,
                self._on_control,
                loop,
                on_connected=self._on_control_up,
                on_disconnected=self._on_control_down,
                on_writable=self._on_control_writable,
            )
        except ValueError:
            self.network.close()
            raise
        self._asker = Asker(f"the server at {url}", self._control.send, loop)
        self._greet()

    @classmethod
    async def connect(
        cls, url: str, timeout: float = CONNECT_SECONDS, *, for_turns: bool = False, network: Network | None = None
    ) -> Frontend:
        """Connect to a server, waiting for it if it is not up yet. Raises Unavailable, ProtocolProblem, ValueError.

        `for_turns`: the calls come from turns of objects, which have to end even while their server is stopping.
        """
        frontend = cls(url, asyncio.get_running_loop(), for_turns=for_turns, network=network)
        try:
            async with asyncio.timeout(timeout):
                await frontend._welcomed
        except TimeoutError:
            frontend.close()
            raise Unavailable(
                f"nobody answered at {url} within {timeout:g} s. Is a server running there? Start one with "
                f"`durable-engine run MODULE --bind {url}`, or check the address"
            ) from None
        except BaseException:
            frontend.close()
            raise
        return frontend

    def close(self) -> None:
        """Close all connections; calls under way fail with EngineClosed."""
        if self.closed:
            return
        self._flush()
        self.closed = True
        self._sweeper.close()
        if self._greeter is not None:
            self._greeter.cancel()
        error = EngineClosed("the engine was closed while the call was under way", outcome="unknown")
        for link in self._links.values():
            link.close(error)
        self._asker.fail_all(error)
        self._control.close()
        self._welcomed.cancel()
        self.network.close()

    async def answered(self) -> None:
        """See `Backend`."""
        calls = [call for link in self._links.values() for call in (*link.unsent.values(), *link.in_flight.values())]
        waiting = [call.future for call in calls if not call.future.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=ANSWER_SECONDS)

    async def aclose(self) -> None:
        """See `Backend`."""
        self.close()

    # Calls.

    def call(
        self,
        object_type: str,
        object_id: str,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None,
        *,
        prefix: str = "",
        timeout: float | None = None,
        key: str | None = None,
        flags: int = 0,
        chain: list[str] | None = None,
        trace: dict[str, str] | None = None,
    ) -> asyncio.Future[Any]:
        """Call a handler by names; the future brings plain builtins. Raises InvalidArguments and TooLarge at once."""
        target = target_of(prefix, object_type, object_id)
        return self.submit(target, handler, args, kwargs, timeout, key, flags, chain, trace)

    def submit(
        self,
        target: Target,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
        key: str | None = None,
        flags: int = 0,
        chain: list[str] | None = None,
        trace: dict[str, str] | None = None,
        decode: ResultDecoder | None = None,
    ) -> asyncio.Future[Any]:
        """`call` on a checked address; `decode` makes the result of the reply."""
        if self.closed:
            raise EngineClosed("this engine was closed; open another")
        if timeout is None:
            timeout = CALL_TIMEOUT_SECONDS
        elif not 0 < timeout <= TIMEOUT_SECONDS_MAX:
            timeout = checked_timeout(timeout)
        if key is not None and not flags & FLAG_AUTO_KEY:
            check_key(key)
        prefix, object_type, object_id, partition = target
        link = self._by_partition[partition]
        unsent = link.unsent
        if len(unsent) >= UNSENT_MAX:
            raise Overloaded(f"{UNSENT_MAX} calls already wait in this client to be sent to shard {link.shard}")
        self._last_id = number = self._last_id + 1
        milliseconds = int(timeout * 1000) or 1
        encoded = b""
        if key is None and not (kwargs or flags or chain or trace or prefix):  # nearly always, hence in line
            try:
                encoded = encode_value((number, object_type, object_id, handler, args, milliseconds))
            except UNSENDABLE:
                pass  # encode_call says what is wrong
        if not encoded or len(encoded) > ARGUMENTS_BYTES_MAX:
            encoded = encode_call(number, target, handler, args, milliseconds, kwargs, key, flags, chain, trace)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._now = self.loop.time()
            self.loop.call_soon(self._flush)
        deadline = self._now + timeout
        future = self._create_future()
        unsent[number] = call = Pending(number, encoded, future, deadline, target, handler, decode, key is not None)
        if flags & FLAG_ONE_WAY:
            call.one_way = link.has_one_way = True
        if deadline < self._sweeper.earliest:
            self._sweeper.arm(deadline)
        return future

    async def request(
        self, op: str, arguments: dict[str, Any] | None = None, *, shard: int | None = None, timeout: float = 5.0
    ) -> Any:
        """Ask the server (or one shard) something that concerns no single object."""
        if self.closed:
            raise EngineClosed("this engine was closed; open another")
        if shard is None:
            return await self._asker.ask(op, arguments or {}, timeout)
        link = self._links.get(shard)
        if link is None:
            raise Unavailable(f"there is no shard {shard}; the server has {sorted(self.routes.routes)}")
        return await link.asker.ask(op, arguments or {}, timeout)

    @property
    def shard_numbers(self) -> list[int]:
        """Numbers of the shards of the routing table."""
        return sorted(self.routes.routes)

    def statistics(self) -> ClientStatistics:
        """What this client has seen so far."""
        in_flight = sum(len(link.unsent) + len(link.in_flight) for link in self._links.values())
        return ClientStatistics(calls=self._last_id, in_flight=in_flight, **asdict(self.counts))

    def shard_of(self, target: Target) -> int:
        """The shard that answers for an address."""
        return self.routes.partitions[target.partition]

    # One loop tick: everything leaves together.

    def flush_soon(self) -> None:
        if not self._flush_scheduled and not self.closed:
            self._flush_scheduled = True
            self._now = self.loop.time()
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self.closed:
            return
        for link in self._links.values():
            if link.unsent:
                link.flush()
            link.asker.flush()

    def _expire(self, now: float) -> float:
        """Give up what is overdue."""
        return min((link.expire(now) for link in self._links.values()), default=NEVER)

    # The server: routing table and heartbeat.

    def refresh_routes(self) -> None:
        """Ask for the routing table, whatever its version."""
        self._hello(known=0)

    def rehome(self, link: Link) -> None:
        """Hand calls that were never sent to the shard that owns their partition now."""
        for number, call in list(link.unsent.items()):
            home = self._by_partition[call.target.partition]
            if home is not link:
                home.take(link.unsent.pop(number))

    def malformed(self, sender: str, what: object) -> None:
        """Count a message that makes no sense, and say so in the log."""
        self.counts.malformed += 1
        _logger.warning("a message from %s was dropped: %s", sender, what)

    def _greet(self) -> None:
        """The heartbeat, by a timer that arms itself.

        While a shard refuses calls it asks for the table as `refresh_routes` did: that message may not have been taken.
        """
        self._hello(known=0 if any(link.blocked for link in self._links.values()) else self.routes.version)
        waiting = not self._control.connected or not self._welcomed.done()
        self._greeter = self.loop.call_later(GREETING_SECONDS if waiting else HELLO_SECONDS, self._greet)

    def _hello(self, known: int, acknowledged: dict[int, tuple[int, int]] | None = None) -> None:
        if self._control.connected and not self.closed:
            self._control.send(wire.pack(wire.HELLO, wire.Hello(self.routes.server, known, acknowledged or {})))

    def _on_control_up(self) -> None:
        """Perhaps to another server than before: it must not know less than this client was told."""
        acknowledged = {shard: (link.epoch, link.seq) for shard, link in self._links.items() if link.epoch}
        self._hello(0, acknowledged)
        self._asker.flush()

    def _on_control_down(self) -> None:
        self._asker.lost()

    def _on_control_writable(self) -> None:
        self._asker.flush()

    def _on_control(self, message: bytes) -> None:
        try:
            body = wire.unpack(message)
        except wire.ProtocolError as error:
            self.malformed("the server", error)
            self._refused(str(error))
            return
        if type(body) is RoutingTable:
            self._on_welcome(body)
        elif type(body) is wire.Response:
            if not self._asker.on_response(body):
                self.counts.late += 1
        else:
            self.malformed("the server", body)
            self._refused(str(body))

    def _refused(self, problem: str) -> None:
        if not self._welcomed.done():
            self._welcomed.set_exception(ProtocolProblem(f"{self.url} does not speak our protocol: {problem}"))

    def _on_welcome(self, table: RoutingTable) -> None:
        another = self.routes.server not in ("", table.server)
        try:
            newer = self.routes.apply(table)
        except ValueError as error:
            self.malformed("the server", error)
            self._refused(str(error))
            return
        if newer:
            self._follow(another)
        for link in self._links.values():
            link.unblock()
        if not self._welcomed.done():
            self._welcomed.set_result(None)

    def _follow(self, another: bool) -> None:
        """Bring the links in line with a new table."""
        for shard in {-1, *self.routes.routes} - self._links.keys():
            self._links[shard] = Link(self, shard)
        self._by_partition = [self._links[shard] for shard in self.routes.partitions]
        for shard, link in self._links.items():
            if another:
                link.forget_epoch()
            route = self.routes.routes.get(shard)
            link.follow(self.routes.route_of(shard), route.state if route is not None else "gone")
            self.rehome(link)
        self.flush_soon()
