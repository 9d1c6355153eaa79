"""Keeps one shard running: start, watch, bury, start again.

A keeper sees its shard three ways: through the control channel (what the shard says), through the board (what it last
wrote in shared memory, also when it can no longer speak), and through the fork server (that it was reaped, so it is
dead for certain and its successor may open the same ownership row without waiting for any lease).

How one process of a shard gives way to another in good order is told in `renewal`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

from durable_engine import endpoints
from durable_engine.forkserver_main import Exited, Forked, ForkFailed
from durable_engine.incarnation import Code, Incarnation
from durable_engine.restarts import Restarts
from durable_engine.strikes import Strikes, describe_exit, is_strike
from durable_engine.succession import Succession
from durable_engine.watchdog import Watchdog
from durable_shards.board import Boards, monotonic_ms
from durable_shards.control import (
    EXIT_FENCED,
    Answer,
    Begin,
    Drain,
    Drained,
    EpochChanged,
    Failed,
    FencedOff,
    Finish,
    FromShard,
    Park,
    Ready,
    Routes,
    Sealed,
    ShardConfig,
    StandsBy,
    Unparked,
)
from durable_shards.wire import ShardRoute
from durable_storage.errors import Unavailable

_log = logging.getLogger("durable_engine.supervisor")

State = Literal["starting", "up", "down", "failing", "draining", "stopped"]
Intent = Literal["serve", "restart", "stop"]

STUCK_SECONDS: Final = 2.0
"""Beyond its drain time, until a shard that does not end is killed."""
FORMER_SECONDS_MAX: Final = 20.0
"""The same for one that has sealed itself."""

MakeConfig = Callable[["ShardKeeper"], ShardConfig]


class ShardKeeper:
    """One shard as its supervisor sees it."""

    def __init__(
        self,
        shard: int,
        partitions: range,
        code: Code,
        *,
        loop: asyncio.AbstractEventLoop,
        boards: Boards,
        make_watchdog: Callable[[], Watchdog],
        strikes: Strikes,
        make_config: MakeConfig,
        on_change: Callable[[], None],
        on_parked: Callable[[], None],
        on_drained: Callable[[], None],
        on_fenced: Callable[[str], None],
    ) -> None:
        self.shard: int = shard
        self.partitions: range = partitions
        self.code: Code = code
        """Of the process that served last; the next one is made from it, unless somebody asks for another."""
        self.state: State = "stopped"
        self.endpoint: str = ""
        self.epoch: int = 0
        self.last_error: str = ""
        self.accept_data_loss: bool = False
        self.restarts: Restarts = Restarts()
        self.first_outcome: asyncio.Future[Failed | None] = loop.create_future()
        """Set once the shard is up, or has failed to get up."""
        self.is_renewed: bool = False
        """A planned change is under way."""
        self.drained: bool = False
        """Asked to stop, it has finished everything of its own and only helps others to."""
        self.ended: asyncio.Event = asyncio.Event()
        """No process of this shard is left, and none will be started."""
        self._loop = loop
        self.processes: Succession = Succession(shard, loop, boards, make_watchdog, self._on_message)
        self._strikes = strikes
        self.make_config: MakeConfig = make_config
        self._on_change = on_change
        self._on_parked = on_parked
        self._on_drained = on_drained
        self._on_fenced = on_fenced
        self._intent: Intent = "serve"
        self._served_pid = 0
        """Of the process that listens at `endpoint`."""
        self._timer: asyncio.TimerHandle | None = None

    # What the supervisor asks for.

    def start(self, code: Code | None = None) -> None:
        """Have the fork server make a shard, of `code` or of the code that it has."""
        self._timer = None
        process = self.processes.current = self.processes.make(code or self.code)
        self._become("failing" if self.restarts.failing else "starting")
        self.launch(process, self.make_config(self))

    @property
    def is_stopping(self) -> bool:
        """Asked to stop, or stopped."""
        return self._intent == "stop"

    def stop(self, drain_seconds: float) -> None:
        """Drain the shard for good; `ended` is set when it is gone."""
        self.cancel_timer()
        if self.processes.standby is not None:
            self.processes.standby.kill()
        if self.processes.former is not None:
            self.processes.former.send(Finish())
        if self.processes.current is None:
            self._intent = "stop"
            self._stopped()
        else:
            self.leave("stop", drain_seconds)

    def launch(self, process: Incarnation, config: ShardConfig) -> None:
        """Order a process; if there is no fork server it counts as dead at once."""
        try:
            process.launch(config)
        except OSError as error:
            process.reason = self.last_error or f"no fork server: {error.strerror}"
            self._loop.call_soon(self._buried, process, EXIT_FENCED)

    def leave(self, intent: Intent, drain_seconds: float) -> None:
        """Have the current process drain, and then give way to the one that stands by, or end."""
        self._intent = intent
        self._become("draining")
        current = self.processes.current
        assert current is not None
        current.send(Drain(drain_seconds, hands_over=intent == "restart"))
        # A shard that does not even get as far as its own deadline is stuck.
        self.cancel_timer()
        self._timer = self._loop.call_later(drain_seconds + STUCK_SECONDS, current.kill)

    def cancel_timer(self) -> None:
        """Neither start a process nor kill one at the time that was set for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def finish(self) -> None:
        """Nobody needs this shard any more: a drained one exits."""
        self.tell(Finish())

    def kill(self) -> None:
        """End all processes now. A keeper that is not stopping starts another."""
        for process in self.processes:
            process.kill()

    def ask(self, op: str, arguments: dict[str, Any]) -> asyncio.Future[Any]:
        """Ask the shard something; fails with Unavailable when it is not there or dies meanwhile."""
        current = self.processes.current
        if current is not None and current.serves.done():
            return current.ask(op, arguments)
        refused = self._loop.create_future()
        refused.set_exception(Unavailable(f"shard {self.shard} is {self.state}"))
        return refused

    def tell(self, message: Routes | Park | Finish) -> None:
        """Pass something on to the shard's processes."""
        for process in self.processes:
            process.send(message)

    def remember(self, seq: int) -> None:
        """Somebody was told of commit `seq`: a store that shows less has lost it."""
        self.processes.remember(seq)

    def lost_the_fork_server(self, code: Code, reason: str) -> None:
        """Nobody reaps its processes any more: kill them, and see for ourselves that they are gone."""
        if self.processes.current is None and self.code is code:
            self.last_error = reason
        for process in self.processes:
            if process.code is code:
                process.reason = reason
                process.kill_and_see(partial(self._buried, process, -signal.SIGKILL))

    @property
    def acknowledged_seq(self) -> int:
        """The last commit that anybody was told of."""
        return self.processes.acknowledged_seq

    @property
    def codes(self) -> set[Code]:
        """What is still needed to keep the shard running, and to hear of the ends of its processes."""
        return {self.code, *(process.code for process in self.processes)}

    # What happens to the shard.

    def on_event(self, event: Forked | ForkFailed | Exited, pidfd: int | None) -> None:
        """News of a fork server."""
        process = self.processes.find(event.number)
        if process is None:
            if pidfd is not None:
                os.close(pidfd)
        elif isinstance(event, Forked):
            process.forked(event.pid, pidfd)
            self._on_change()
        elif isinstance(event, ForkFailed):
            process.reason = f"no new process: {event.message}"
            self._buried(process, EXIT_FENCED)
        else:
            self._buried(process, event.status)

    @property
    def pid(self) -> int:
        """Of the process; 0 when there is none."""
        current = self.processes.current
        return current.pid if current is not None and current.runs else 0

    def route(self) -> ShardRoute:
        """This shard's line of the routing table."""
        reachable = self.state in ("up", "draining")
        return ShardRoute(
            self.shard,
            self.endpoint if reachable else "",
            self.epoch,
            (self.partitions.start, self.partitions.stop),
            self.state,
            self._served_pid if reachable else self.pid,
        )

    def describe(self) -> dict[str, Any]:
        """What `shards list` shows."""
        current = self.processes.current
        reading = current.board.read() if current is not None and current.runs else None
        return {
            "shard": self.shard,
            "pid": self.pid,
            "state": self.state,
            "endpoint": self.endpoint,
            "partitions": [self.partitions.start, self.partitions.stop],
            "epoch": self.epoch,
            "seq": self.acknowledged_seq,
            "restarts": self.restarts.total,
            "heartbeat_ms": monotonic_ms() - reading.heartbeat_ms if reading else None,
            "running": reading.running if reading else None,
            "last_error": self.last_error,
        }

    # Inside.

    def succeed(self) -> None:
        """The process that stands by takes the place of the one that was: sealed, or dead."""
        self.cancel_timer()
        self._intent = "serve"
        successor = self.processes.advance()
        if self.processes.former is not None:
            self._loop.call_later(FORMER_SECONDS_MAX, self.processes.former.kill)
        if successor is None:  # it died while it stood by
            self.start()
        else:
            successor.send(Begin(self.acknowledged_seq or None, self._strikes.parked))

    def _on_message(self, process: Incarnation, message: FromShard) -> None:
        match message:
            case StandsBy():
                process.stands_by.set_result("")
            case Failed(error, traceback):
                process.failed = message
                process.reason = f"{error.get('type', 'Error')}: {error.get('message', '')}"
                _log.error("shard %d gives up: %s\n%s", self.shard, process.reason, traceback)
            case Unparked(address):
                self._strikes.unpark(address)
                self._on_parked()
                _log.info("%s was unparked", address)
            case Answer(number, value):
                process.answered(number, value)
            case _ if process is not self.processes.current:
                pass  # of one that has sealed itself nothing else counts any more
            case Ready():
                self._on_ready(process, message)
            case Sealed() if self._intent == "restart":
                self.succeed()
            case Sealed():
                process.send(Finish())
            case Drained():
                self.drained = True
                self._on_drained()
            case FencedOff(text):
                process.reason = text
                self._on_fenced(text)
            case EpochChanged(epoch):
                self.epoch = epoch
                self._on_change()

    def _on_ready(self, process: Incarnation, ready: Ready) -> None:
        self.endpoint = ready.endpoint
        self.epoch, self._served_pid = ready.epoch, process.pid
        if not process.orphaned:
            self.code = process.code
        if self.accept_data_loss:
            self.accept_data_loss = False
            self.processes.forget_commits()
        self.remember(ready.seq)
        self.restarts.came_up(self._loop.time())
        took = self._loop.time() - process.started_at
        _log.info("shard %d is up: pid %d, epoch %d, after %.3f s", self.shard, self.pid, self.epoch, took)
        process.came_up()
        self._on_change()
        if self._intent == "serve":
            self._become("up")
        self._report_first(None)

    def _buried(self, process: Incarnation, status: int) -> None:
        """The process is gone, for certain."""
        if process not in self.processes:
            return
        was_current, was_standby = process is self.processes.current, process is self.processes.standby
        self.processes.remove(process)
        if crash := process.bury(process.reason or describe_exit(status)):
            _log.error("shard %d left this stack behind:\n%s", self.shard, crash)
        endpoints.forget(process.bind)
        if was_current:
            self.cancel_timer()
            self._count_strike(process, status)
        if self._intent == "stop":
            self._report_first(process.failed)
            self._stopped()
        elif was_current:
            self._replace(process, status)
        elif was_standby and self.processes.current is None:
            self._died(status, process)

    def _replace(self, process: Incarnation, status: int) -> None:
        standby = self.processes.standby
        if standby is not None:
            _log.warning("shard %d died (%s): the process that stands by goes on", self.shard, describe_exit(status))
            self._become("starting")
            if standby.stands_by.done():  # if not, it soon will: `renewal` waits for it
                self.succeed()
        elif self._intent == "restart":
            self._intent = "serve"
            self.start()
        else:
            self._died(status, process)

    def _stopped(self) -> None:
        self.drained = self.processes.current is None
        if not list(self.processes):
            self._become("stopped")
            self.ended.set()
        self._on_drained()

    def _died(self, status: int, process: Incarnation) -> None:
        delay = self.restarts.died(self._loop.time())
        self.last_error = process.reason or describe_exit(status)
        failed = process.failed
        data_loss = failed is not None and failed.error.get("type") == "DataLossDetected"
        self._become("failing" if self.restarts.failing or data_loss else "down")
        if failed is not None or self.restarts.failing:
            self._report_first(failed or Failed({"type": "Unavailable", "message": self.last_error}, ""))
        if data_loss:
            _log.error("shard %d stays down until somebody accepts the loss of data", self.shard)
            return
        _log.warning("shard %d died: %s; restart in %.2f s", self.shard, self.last_error, delay)
        self._timer = self._loop.call_later(delay, self.start)

    def _count_strike(self, process: Incarnation, status: int) -> None:
        running = process.board.read().running
        if running is None or not is_strike(status, killed_by_watchdog=process.condemned):
            return
        parked = self._strikes.strike(running, self._loop.time())
        count = self._strikes.count(running)
        _log.error("strike %d against %s: shard %d died in its turn", count, running, self.shard)
        if parked:
            _log.error("%s is parked: calls to it are refused until it is unparked", running)
            self._on_parked()

    def _report_first(self, outcome: Failed | None) -> None:
        if not self.first_outcome.done():
            self.first_outcome.set_result(outcome)

    def _become(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._on_change()
