"""The embedded engine in a test's hands: it has a manual clock, its saves can be refused, and its shard can be killed.

A crash is what a kill -9 is to a server with one shard: memory, turns and answers are gone, what is durable is not,
calls under way end with `Unavailable` and outcome "unknown", those that carry a key are sent again. A new shard opens
on the same store, and calls made meanwhile wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, cast

from durable_engine.embedded import Embedded, EmbeddedSettings
from durable_engine.pending import Target, timed_out
from durable_engine.program import ProgramPeer
from durable_engine.testing_alarms import ManualScheduler
from durable_engine.testing_shard import MortalShard, Outlet
from durable_engine.testing_store import Order, Place, RefusedSave, RefusingStore
from durable_engine.timeouts import CALL_TIMEOUT_SECONDS
from durable_shards.clock import ManualClock
from durable_shards.errors import UnknownClass
from durable_shards.peers import detached
from durable_shards.schedulers import Scheduler
from durable_shards.shard import Shard
from durable_shards.spec import ClassSpec
from durable_shards.wire import FLAG_FRESH, Call
from durable_storage import crashpoints
from durable_storage.address import Address
from durable_storage.errors import DurableError, Unavailable
from durable_storage.lease import Control
from durable_storage.store import DueAlarm, Store, Stored

HUNG_SECONDS: Final = 5.0
"""Real time after which a call that nobody answers ends with CallTimeout, so that no test hangs for ever."""

_logger = logging.getLogger(__name__)


class Motion:
    """What a test has set going. It goes on by itself, whether it is awaited or not.

    As long as nobody awaits it, calls that the test makes are held back until it is over: they come after it.
    """

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.is_awaited = False

    @property
    def goes_before(self) -> bool:
        """Whether calls have to wait for it."""
        return not self.is_awaited and not self.task.done()

    def __await__(self) -> Generator[Any, None, None]:
        self.is_awaited = True
        yield from self.task


class ManualBackend(Embedded):
    """`Embedded` by a manual clock, on a store whose failures can be ordered."""

    def __init__(
        self, settings: EmbeddedSettings, loop: asyncio.AbstractEventLoop, place: Place, clock: ManualClock
    ) -> None:
        self.clock = clock
        self.prefixes = {""}
        """Tenants that were called so far."""
        self._place = place
        self._refusals: deque[RefusedSave] = deque()
        self._crashes: list[crashpoints.Armed] = []
        self._reopening: asyncio.Task[None] | None = None
        self.motion: Motion | None = None
        """What the test set going last."""
        self._due: dict[int, float] = {}
        """When calls time out by the manual clock."""
        self._sent: dict[int, Call] = {}
        """Calls with a key, as they were before their handlers saw them."""
        super().__init__(settings, loop)

    def _new_control(self) -> Control:
        return self._place.control

    def _new_shard(self) -> MortalShard:
        # By delegation it is a Store, which no type checker can see.
        self.store = cast("Store", RefusingStore(self._place, self._refusals))
        self.scheduler = ManualScheduler(self.store, self.registry.served, self.clock)
        for armed in self._crashes:
            armed.store = self.store
        self.shard = MortalShard(
            self.registry,
            self.store,
            self._shard_settings(),
            clock=self.clock,
            caller=Outlet(self),
            on_stop=self._on_stop,
            make_scheduler=self._scheduler_of,
            learn=self.learn,
        )
        return self.shard

    def _read_at_once(self, *_: Any) -> None:
        """Not in a test's hands: the shard may be made to die between a call and its turn."""

    def _scheduler_of(self, _: Shard) -> Scheduler:
        return self.scheduler

    def learn(self, spec: ClassSpec) -> None:
        """Serve a class that is used. Raises DefinitionError for another one of a stored name that is in use."""
        if self.registry.classes.get(spec.name) is not spec:
            self.registry.add(spec)
            self.scheduler.is_stale = True

    async def aclose(self) -> None:
        """Let what moves come to an end, and let the store go. Turns that wait for something outside are cancelled."""
        if self.closed:
            return
        self.closed = True
        try:
            async with asyncio.timeout(HUNG_SECONDS):
                while not self.is_calm():
                    await self.movement()
        except (TimeoutError, DurableError) as error:
            _logger.warning("the engine did not come to rest and is closed as it is: %r", error)
        finally:
            for armed in self._crashes:
                armed.disarm()
            await self._let_go()

    # Calls.

    def submit(self, *args: Any, **options: Any) -> asyncio.Future[Any]:
        """See `Backend`; a call of the test waits for what the test set going before and does not await."""
        motion = self.motion
        if motion is None or not motion.goes_before:
            return super().submit(*args, **options)
        future: asyncio.Future[Any] = self.loop.create_future()
        motion.task.add_done_callback(lambda _: self._submit_held(future, args, options))
        return future

    def _submit_held(self, future: asyncio.Future[Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if future.done():
            return
        try:
            inner = super().submit(*args, **options)
        except Exception as error:
            future.set_exception(error)
        else:
            inner.add_done_callback(lambda inner: _hand_on(inner, future))

    def _submit(
        self,
        target: Target,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None,
        timeout: float | None,
        *more: Any,
        **options: Any,
    ) -> asyncio.Future[Any]:
        if target.object_type not in self.registry.classes:
            refused: asyncio.Future[Any] = self.loop.create_future()
            refused.set_exception(_unknown_class(target.object_type, sorted(self.registry.classes)))
            return refused
        future = super()._submit(target, handler, args, kwargs, timeout, *more, **options)
        self.prefixes.add(target.prefix)
        pending = self._pending[self._last_id]
        self._due[pending.id] = self.clock.monotonic() + (CALL_TIMEOUT_SECONDS if timeout is None else timeout)
        pending.deadline = max(pending.deadline, self.loop.time() + HUNG_SECONDS)
        return future

    def _deliver(self) -> None:
        if self._reopening is not None:
            return  # they wait for the new shard
        for call in self._calls:
            if call.key is not None:
                self._sent[call.id] = _copy(call)
        super()._deliver()
        for calls in (self._due, self._sent):
            for number in calls.keys() - self._pending.keys():
                del calls[number]

    # Crashes.

    def crash(self) -> None:
        """Let the shard die, now. The new one opens as soon as the loop gets to it; see `reopened`."""
        if self._reopening is not None or self.closed:
            return
        dead = self.shard
        dead.die()
        self.scheduler.die()
        self._calls = [*self._lost_with_the_shard(), *self._calls]
        self._reopening = self.loop.create_task(self._reopen(dead))

    def _lost_with_the_shard(self) -> list[Call]:
        """Tell the callers of what was under way; calls that may be sent again are returned."""
        pending, self._pending = self._pending, {}
        self._peer = ProgramPeer(self._pending)  # to the old one the dead shard may say what it likes
        waiting = {call.id for call in self._calls}
        again = []
        for number, call in list(pending.items()):
            if number in waiting or number in self._sent:
                self._pending[number] = pending.pop(number)
                if number not in waiting:
                    again.append(self._sent[number])
            elif not call.future.done():
                call.future.set_exception(
                    Unavailable(
                        f"the shard died before it answered {call}; whether it ran is unknown", outcome="unknown"
                    )
                )
        pending.clear()
        return again

    async def _reopen(self, dead: MortalShard) -> None:
        assert self._term is not None, "only an open engine can crash"
        try:
            await dead.close()
            self._shard = self._new_shard()
            await self._shard.start(self._claim(self._term))
        except DurableError as error:
            self._on_stop(error)
            raise
        finally:
            self._reopening = None
        if self._calls:
            self.loop.call_soon(self._deliver, context=self._context)

    async def reopened(self) -> None:
        """Wait for the shard after a crash. Raises what keeps it from opening."""
        if self._reopening is not None:
            await asyncio.shield(self._reopening)

    def crash_at(self, point: str, nth: int) -> Order:
        """See `crashpoints.arm`; of this engine only the shard dies."""
        order = Order()

        def strike() -> None:
            order.fired = True
            self._crashes.remove(armed)
            self.crash()

        armed = crashpoints.arm(point, nth=nth, store=self.store, act=strike)
        self._crashes.append(armed)
        return order

    def refuse_next_save(self, error: Exception) -> Order:
        """Have the store refuse the next commit with `error`."""
        order = RefusedSave(error)
        self._refusals.append(order)
        return order

    # What is under way.

    def is_calm(self) -> bool:
        """Whether nothing moves by itself, as far as can be seen; something may yet begin in the loop's next ticks."""
        return not (self._calls or self._reopening or self.shard.moves)

    async def movement(self) -> None:
        """Wait until something of what is under way has come further. Raises what keeps the engine from serving."""
        if self._lost is not None:
            raise self._lost
        if self._reopening is not None:
            await asyncio.wait((self._reopening,))
        elif self.shard.moves:
            await self.shard.movement()
        else:
            await asyncio.sleep(0)

    def progress(self) -> object:
        """Another value whenever something has happened."""
        return self.shard, self.shard.turns.count, self.shard.seq, self._last_id, len(self._pending)

    def next_timeout(self) -> float | None:
        """When the next call or turn runs out of time (monotonic seconds of the clock)."""
        calls = [due for number, due in self._due.items() if number in self._pending]
        turn = self.shard.turns.deadlines.next_due()
        return min(calls if turn is None else [*calls, turn], default=None)

    def give_up_overdue(self) -> None:
        """End calls that ran out of time, as their caller would; the shard had its say before."""
        now = self.clock.monotonic()
        for number, due in list(self._due.items()):
            if due <= now and number in self._pending:
                self._peer.end(number, timed_out(self._pending[number]))

    async def fire(self, alarm: DueAlarm) -> None:
        """Fire an alarm in any case. Raises what its method raises."""
        prefix, object_type, object_id = alarm.address
        timeout = self.registry.classes[object_type].options.call_timeout
        await self.call(object_type, object_id, "$fire", [alarm.name, None], None, prefix=prefix, timeout=timeout)

    async def stored(self, address: Address) -> Stored | None:
        """What the store itself holds of an object. Raises what keeps the engine from serving."""
        if self._lost is not None:
            raise self._lost
        [found] = await self.store.load([address])
        return found

    async def outside(self, function: Callable[[], None]) -> None:
        """Call a function from the loop, as a timer would: turns that it starts must not find themselves in a task."""
        over: asyncio.Future[None] = self.loop.create_future()

        def run() -> None:
            try:
                function()
            finally:
                over.set_result(None)

        self.loop.call_soon(run, context=self._context)
        await over


def _copy(call: Call) -> Call:
    """A call as it is sent again: some shard may know its key by then."""
    args, kwargs = detached([call.args, call.kwargs])
    return Call(
        call.id, call.object_type, call.object_id, call.handler, args, call.timeout_ms, kwargs, call.prefix, call.key,
        call.flags & ~FLAG_FRESH, call.chain, call.trace,
    )  # fmt: skip


def _hand_on(inner: asyncio.Future[Any], outer: asyncio.Future[Any]) -> None:
    if outer.done():
        if not inner.cancelled():
            inner.exception()  # nobody wants to know
    elif inner.cancelled():
        outer.cancel()
    elif (error := inner.exception()) is not None:
        outer.set_exception(error)
    else:
        outer.set_result(inner.result())


def _unknown_class(name: str, known: list[str]) -> UnknownClass:
    said = f"no class {name!r} is known to this test; known are: {', '.join(known) or 'none'}"
    return UnknownClass(f"{said}. Use the class itself, or list it: @pytest.mark.durable(objects=[...])")
