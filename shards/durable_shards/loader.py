"""Batched activation: loads that are wanted together are one query, and so are look-ups of idempotency keys.

One query of each kind is under way at a time, and what is wanted meanwhile gathers for the next, exactly like
commits do. While the store is away, wanted objects stay wanted; their calls leave as their deadlines pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
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
RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 0.5

log = logging.getLogger("durable_engine.shard")


class Batcher(Generic[Wanted, Found]):
    """Gathers what is wanted into one query at a time.

    `query` answers in the order asked. `found(wanted, answer)` takes each answer; `failed(wanted, error)` each
    item of a query that failed and returns whether the item shall be asked for again. `what` names the items.
    A query that failed is made once more for each tenant by itself (`tenant` tells them apart), so that one whose
    tables are not there does not fail the others; unless the whole store is away.
    """

    def __init__(
        self,
        what: str,
        query: Callable[[Sequence[Wanted]], Awaitable[Sequence[Found]]],
        found: Callable[[Wanted, Found], None],
        failed: Callable[[Wanted, DurableError], bool],
        done: Callable[[], None],
        tenant: Callable[[Wanted], str],
    ) -> None:
        self._what = what
        self._query = query
        self._found = found
        self._failed = failed
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
        return len(self._wanted) + sum(map(len, self._apart))

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
        again: list[Wanted] = []
        if error is None:
            self._retry_seconds = RETRY_SECONDS_MIN
            for item, answer in zip(items, task.result(), strict=True):
                try:
                    self._found(item, answer)
                except Exception:
                    log.exception("an answer of the store could not be worked off; the others are")
        elif not self._split(items, error):
            again = self._work_off_failure(items, error)
        self._wanted[:0] = again
        if (self._wanted or self._apart) and self._scheduled is None and self._task is None:
            loop = asyncio.get_running_loop()
            if again and not self._apart:
                self._scheduled = loop.call_later(self._retry_seconds, self._start)
                self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)
            else:
                self._scheduled = loop.call_soon(self._start)
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
        *,
        shard: int,
        looked_up: Callable[[Activation, Call, ResultRow | None], None],
        resume: Callable[[Activation], None],
    ) -> None:
        self._store = store
        self._gate = gate
        self._shard = shard
        self._on_looked_up = looked_up
        self._resume = resume
        self._objects: Batcher[Activation, Stored | None] = Batcher(
            "objects", self._load, self._loaded, self._load_failed, gate.released, lambda act: act.address.prefix
        )
        self._keys: Batcher[tuple[Activation, Call], ResultRow | None] = Batcher(
            "idempotency keys",
            self._look_up,
            self._looked_up,
            self._look_up_failed,
            gate.released,
            lambda wanted: wanted[0].address.prefix,
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
            act.state, act.version = stored.state, stored.version
            if stored.alarms:
                act.alarms_now = {row.name: row for row in stored.alarms}
            act.durable = (act.state, act.version, act.alarms_now)
        act.paused -= 1
        shard_events.activated(act, "store")
        self._gate.tick()
        self._resume(act)
        act.home.watch(act)

    def _load_failed(self, act: Activation, error: DurableError) -> bool:
        """Tell the callers, and forget the object; but while the store is merely away, wait as long as they do."""
        now = self._gate.tick()
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
        self._gate.tick()
        self._on_looked_up(act, call, row)
        self._resume(act)

    def _look_up_failed(self, wanted: tuple[Activation, Call], error: DurableError) -> bool:
        act, call = wanted
        if _is_away(error) and self._gate.tick() < call.deadline and act.head is call:
            return True
        act.paused -= 1
        if act.head is call:
            act.head = None
            self._gate.refuse(call, error)
        self._resume(act)
        return False


def _is_away(error: BaseException) -> bool:
    """Whether the store may answer again by itself, whoever is asked for."""
    return isinstance(error, StoreUnavailable) and error.retryable
