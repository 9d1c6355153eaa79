"""The lease for reads: a clean object is answered for only while the ownership was confirmed a moment ago.

Commits are fenced by the store itself, reads touch no store. So a shard that was stopped and slept through a
takeover must notice before it answers: it compares the clock with the time at which the last confirmed commit or
heartbeat was *sent*, and holds its answers until the store has confirmed the ownership once more. A takeover by
somebody who does not know this process to be dead waits the lease out first (Gray and Cheriton, "Leases", 1989).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from durable_shards.clock import Clock
from durable_shards.wire import Call
from durable_storage.errors import DataLossDetected, Fenced, StoreUnavailable
from durable_storage.lease import LEASE_SECONDS
from durable_storage.store import Store

RENEW_SECONDS = LEASE_SECONDS / 4
RETRY_SECONDS = 0.05

log = logging.getLogger("durable_engine.shard")


class ReadLease:
    """Holds back answers whenever the ownership is older than the lease."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        release: Callable[[list[tuple[Call, Any]]], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._release = release
        self._lost = lost
        self.until = float("-inf")
        """Monotonic time up to which answers may leave."""
        self._held: list[tuple[Call, Any]] = []
        self._waiting: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self.holds = 0
        self._context = copy_context()  # of nobody's turn
        self._closed = False

    def confirmed(self, sent_at: float) -> None:
        """The store confirmed the ownership in answer to something sent at `sent_at`."""
        if self._closed:
            return
        self.until = max(self.until, sent_at + LEASE_SECONDS)
        if self._held or self._waiting:
            self._let_go()

    def hold(self, call: Call, encoded: Any) -> None:
        """Keep an answer until the ownership is confirmed anew."""
        if self._closed:
            return
        self.holds += 1
        self._held.append((call, encoded))
        self.renew()

    def when_confirmed(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a step of the loop of its own, once the ownership is confirmed anew; never if it is lost."""
        if not self._closed:
            self._waiting.append(go_on)
            self.renew()

    def renew_if_ageing(self) -> None:
        """Confirm early when the lease is running out; called now and then while there is traffic."""
        if self.until - self._clock.monotonic() < LEASE_SECONDS - RENEW_SECONDS:
            self.renew()

    def renew(self) -> None:
        """Ask the store whether we still own what we own, unless that is being asked already."""
        if self._task is None and self._retry is None and not self._closed:
            sent_at = self._clock.monotonic()
            self._task = asyncio.ensure_future(self._store.confirm())
            self._task.add_done_callback(lambda task: self._asked(task, sent_at))

    def close(self) -> None:
        """Stop asking and drop what is held: it may not be told any more."""
        self._closed = True
        self.until = float("-inf")
        self._held.clear()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        if self._retry is not None:
            self._retry.cancel()

    def _asked(self, task: asyncio.Task[None], sent_at: float) -> None:
        self._task = None
        if task.cancelled() or self._closed:
            return
        error = task.exception()
        if error is None:
            self.confirmed(sent_at)
            if self._held or self._waiting:  # the machine slept between question and answer
                self.renew()
        elif isinstance(error, Fenced | DataLossDetected):
            self._lost(error)
        else:
            if not isinstance(error, StoreUnavailable):
                log.error("confirming the ownership failed in an unexpected way", exc_info=error)
            self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._again)

    def _again(self) -> None:
        self._retry = None
        self.renew()

    def _let_go(self) -> None:
        if self._clock.monotonic() < self.until:
            held, self._held = self._held, []
            waiting, self._waiting = self._waiting, []
            self._release(held)
            for go_on in waiting:
                asyncio.get_running_loop().call_soon(go_on, context=self._context)
