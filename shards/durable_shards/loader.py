"""Batched activation: loads that are wanted together are one query, and so are look-ups of idempotency keys.

One query of each kind is under way at a time, and what is wanted meanwhile gathers for the next, exactly like
commits do. The next one is sent before the answers of the last are worked off, and these in portions between which
the loop turns: so the store, the callers and the objects work at the same time. While the store is away, wanted objects
stay wanted; their calls leave as their deadlines pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from durable_shards import shard_events
from durable_shards.activation import Activation
from durable_shards.gate import Gate
from durable_shards.wire import Call
from durable_storage import crashpoints, storage_events
from durable_storage.errors import DurableError, StoreUnavailable
from durable_storage.store import ResultRow, Store, Stored

Wanted = TypeVar("Wanted")
Found = TypeVar("Found")

QUERY_MAX = 1000
"""Objects or keys in one query."""
PORTION = 64
"""Answers that are worked off before the loop turns: each may start a turn."""
RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 0.5

log = logging.getLogger("durable_engine.shard")


class Batcher(Generic[Wanted, Found]):
    """Gathers what is wanted into one query at a time.

    `query` answers in the order asked. `found(wanted, answer)` takes each answer; `failed(wanted, error)` each
    item of a query that failed and returns whether the item shall be asked for again. `begin` comes before some of
    these, and `done` after them. `what` names the items. A query that failed is made once more for each tenant by
    itself (`tenant` tells them apart), so that one whose tables are not there does not fail the others; unless the
    whole store is away.
    """

    def __init__(
        self,
        what: str,
        query: Callable[[Sequence[Wanted]], Awaitable[Sequence[Found]]],
        found: Callable[[Wanted, Found], None],
        failed: Callable[[Wanted, DurableError], bool],
        *,
        begin: Callable[[], object],
        done: Callable[[], None],
        tenant: Callable[[Wanted], str],
    ) -> None:
        self._what = what
        self._query = query
        self._found = found
        self._failed = failed
        self._begin = begin
        self._done = done
        self._tenant = tenant
        self._wanted: list[Wanted] = []
        self._apart: list[list[Wanted]] = []
        """Parts of a query that failed, by tenant: each is asked for by itself."""
        self._task: asyncio.Task[Sequence[Found]] | None = None
        self._scheduled: asyncio.Handle | None = None
        self._retry_seconds = RETRY_SECONDS_MIN
        self._closed = False

    @property
    def waiting(self) -> int:
        """Items that are still to be asked for."""
        return len(self._wanted) + (sum(map(len, self._apart)) if self._apart else 0)

    def want(self, item: Wanted) -> None:
        """Ask for `item` with the next query."""
        self._wanted.append(item)
        if self._task is None and self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._start)

    def close(self) -> None:
        """Ask for nothing more."""
        self._closed = True
        self._wanted.clear()
        self._apart.clear()
        if self._scheduled is not None:
            self._scheduled.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._scheduled = None
        if self._closed:
            return
        if self._apart:
            items = self._apart.pop()
        else:
            items, self._wanted = self._wanted[:QUERY_MAX], self._wanted[QUERY_MAX:]
        self._task = asyncio.ensure_future(self._query(items))
        # A callback, not an awaiting task: answers start turns, and a turn must not find itself in our task.
        self._task.add_done_callback(lambda task: self._finish(items, task))

    def _finish(self, items: list[Wanted], task: asyncio.Task[Any]) -> None:
        self._task = None
        if task.cancelled() or self._closed:
            return
        error = task.exception()
        if error is None:
            self._retry_seconds = RETRY_SECONDS_MIN
            self._ask_again(pauses=False)
            self._work_off(zip(items, task.result(), strict=True))
            return
        self._begin()
        again = [] if self._split(items, error) else self._work_off_failure(items, error)
        self._wanted[:0] = again
        self._ask_again(pauses=bool(again))
        self._done()

    def _ask_again(self, *, pauses: bool) -> None:
        """Make the next query, if anything is wanted: now, or after a pause."""
        if self._apart or (self._wanted and not pauses):
            self._start()
        elif self._wanted:
            self._scheduled = asyncio.get_running_loop().call_later(self._retry_seconds, self._start)
            self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)

    def _work_off(self, answers: Iterator[tuple[Wanted, Found]]) -> None:
        """Take in a portion of the answers, and see to it that the others follow."""
        if self._closed:
            return
        self._begin()
        found, taken = self._found, 0
        for item, answer in islice(answers, PORTION):
            taken += 1
            try:
                found(item, answer)
            except Exception:
                log.exception("an answer of the store could not be worked off; the others are")
        if taken == PORTION:
            asyncio.get_running_loop().call_soon(self._work_off, answers)
        self._done()

    def _split(self, items: list[Wanted], error: BaseException) -> bool:
        """Put the items of each tenant apart; False where that would not help."""
        tenants: dict[str, list[Wanted]] = {}
        for item in items:
            tenants.setdefault(self._tenant(item), []).append(item)
        if len(tenants) == 1 or _is_away(error):
            return False
        self._apart += tenants.values()
        return True

    def _work_off_failure(self, items: list[Wanted], error: BaseException) -> list[Wanted]:
        """Those to be asked for again."""
        known = error
        if not isinstance(known, DurableError):
            known = DurableError(f"the store failed in an unexpected way: {error!r}", retryable=True)
        again = [item for item in items if self._failed(item, known)]
        if not again or self._retry_seconds == RETRY_SECONDS_MIN:  # one line for an outage, not one for each attempt
            what = f"{len(items)} {self._what} could not be loaded" + (", trying again" if again else "")
            log.error("%s: %s", what, known, exc_info=error if known is not error else None)
        return again


class Loader:
    """Fetches objects and idempotency results for the shard; the calls wait in their objects' mailboxes."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        go_on: Callable[[Activation], None],
        rest: Callable[[], None],
        *,
        shard: int,
    ) -> None:
        """`go_on` takes each object that waits for nothing more, and `rest` comes when some have."""
        self._store = store
        self._gate = gate
        self._shard = shard
        self.on_looked_up: Callable[[Activation, Call, ResultRow | None], None] = _nobody
        """Takes the result, or none, of each key."""
        self._go_on = go_on
        self._objects: Batcher[Activation, Stored | None] = Batcher(
            "objects",
            self._load,
            self._loaded,
            self._load_failed,
            begin=gate.tick,
            done=rest,
            tenant=lambda act: act.address.prefix,
        )
        self._keys: Batcher[tuple[Activation, Call], ResultRow | None] = Batcher(
            "idempotency keys",
            self._look_up,
            self._looked_up,
            self._look_up_failed,
            begin=gate.tick,
            done=rest,
            tenant=lambda wanted: wanted[0].address.prefix,
        )
        self.loads = 0

    def load(self, act: Activation) -> None:
        """Fetch a new activation's stored form; its calls queue until then."""
        act.paused += 1
        self._objects.want(act)

    def look_up(self, act: Activation, call: Call) -> None:
        """Fetch the stored result of a call's idempotency key; the object waits, so that order is kept."""
        act.paused += 1
        self._keys.want((act, call))

    def close(self) -> None:
        """Ask for nothing more."""
        self._objects.close()
        self._keys.close()

    def waiting(self) -> int:
        """Objects and keys that are still to be asked for."""
        return self._objects.waiting + self._keys.waiting

    async def _load(self, acts: Sequence[Activation]) -> Sequence[Stored | None]:
        if crashpoints.reach("before_load", self._store):
            return []  # to a loader that is closed by now
        return await storage_events.load(self._store, [act.address for act in acts], self._shard)

    def _loaded(self, act: Activation, stored: Stored | None) -> None:
        self.loads += 1
        if stored is not None:
            act.state, act.version, alarms = stored
            if alarms:
                act.alarms_now = {row.name: row for row in alarms}
            act.durable = (act.state, act.version, act.alarms_now)
        act.paused -= 1
        shard_events.activated(act, "store")
        self._go_on(act)
        act.home.watch(act)

    def _load_failed(self, act: Activation, error: DurableError) -> bool:
        """Tell the callers, and forget the object; but while the store is merely away, wait as long as they do."""
        now = self._gate.now
        waits = _is_away(error)
        queue = act.mailbox()
        for _ in range(len(queue)):
            call = queue.popleft()
            if waits and call.deadline > now:
                queue.append(call)
            else:
                self._gate.refuse(call, error)
        if queue:
            return True
        act.paused -= 1
        if act.clean:
            act.home.evict(act, None)
        return False

    async def _look_up(self, wanted: Sequence[tuple[Activation, Call]]) -> Sequence[ResultRow | None]:
        pairs = [(act.address, call.key or "") for act, call in wanted]
        return await self._store.load_results(pairs)

    def _looked_up(self, wanted: tuple[Activation, Call], row: ResultRow | None) -> None:
        act, call = wanted
        act.paused -= 1
        self.on_looked_up(act, call, row)
        self._go_on(act)

    def _look_up_failed(self, wanted: tuple[Activation, Call], error: DurableError) -> bool:
        act, call = wanted
        if _is_away(error) and self._gate.now < call.deadline and act.head is call:
            return True
        act.paused -= 1
        if act.head is call:
            act.head = None
            self._gate.refuse(call, error)
        self._go_on(act)
        return False


def _nobody(*_: Any) -> None:
    raise AssertionError("somebody has to take what was looked up")


def _is_away(error: BaseException) -> bool:
    """Whether the store may answer again by itself, whoever is asked for."""
    return isinstance(error, StoreUnavailable) and error.retryable
