"""What a user of procrastinate has: objects with alarms, and an app whose workers fire them.

`DURABLE_TEST_JOBS` is the database. `DURABLE_TEST_GATES` is a directory of gates, at which a test may hold things up:
the alarm `held` in the middle of its turn, and workers, as far as `DURABLE_TEST_STOPS` names them, `before` they run a
job, and `after` they ran it but before that is written down.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from procrastinate import App, PsycopgConnector, RetryStrategy

from durable_engine import DurableObject, Rejected, alarm, field, handler
from durable_engine.procrastinate_app import conninfo_of
from durable_engine.procrastinate_task import install_alarms


class Bell(DurableObject):
    """Counts what its alarms do."""

    rings: int = 0
    attempts: list[int] = field(default_factory=list)
    payloads: list[Any] = field(default_factory=list)
    rung_at: datetime | None = None

    @handler
    def get(self) -> dict[str, Any]:
        return {"rings": self.rings, "attempts": self.attempts, "payloads": self.payloads}

    @handler
    def last(self) -> datetime | None:
        return self.rung_at

    @handler
    def arm(self, name: str, seconds: float) -> None:
        self.alarms.schedule(name, after=timedelta(seconds=seconds))

    @alarm
    def ring(self, payload: Any) -> None:
        self.rings += 1
        self.payloads.append(payload)
        self.rung_at = self.now()

    @alarm
    def again(self) -> None:
        """Arms itself, in the far future, while it fires."""
        self.rings += 1
        self.alarms.schedule("again", after=timedelta(days=1))

    @alarm
    def flaky(self, attempt: int) -> None:
        if attempt < 2:
            raise ValueError(f"attempt {attempt}")
        self.rings += 1
        self.attempts.append(attempt)

    @alarm
    def broken(self, attempt: int) -> None:
        raise Rejected(f"attempt {attempt} cannot work")

    @alarm
    async def held(self) -> None:
        """Stays in its turn until the gate `held` opens."""
        await passed("held")
        self.rings += 1


async def passed(name: str) -> None:
    """Wait at a gate, a pipe: until a test that has opened it closes it."""
    await asyncio.to_thread((Path(os.environ["DURABLE_TEST_GATES"]) / name).read_bytes)


async def gates(call_next: Callable[[], Awaitable[Any]], _context: object, _worker: object) -> Any:
    """Around each job of a worker."""
    wanted = os.environ.get("DURABLE_TEST_STOPS", "")
    if "before" in wanted:
        await passed("before")
    result = await call_next()
    if "after" in wanted:
        await passed("after")
    return result


app = App(
    connector=PsycopgConnector(conninfo=conninfo_of(os.environ.get("DURABLE_TEST_JOBS", "")), min_size=1, max_size=4),
    worker_defaults={"worker_middleware": [gates], "fetch_job_polling_interval": 0.1},
)
install_alarms(app, retry=RetryStrategy(max_attempts=2))
