"""Keeps one shard running: start, watch, bury, start again.

A keeper sees its shard three ways: through the control channel (what the shard says), through the board (what it last
wrote in shared memory, also when it can no longer speak), and through the fork server (that it was reaped, so it is
dead for certain and its successor may open the same ownership row without waiting for any lease).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Any, Literal

from durable_engine import endpoints
from durable_engine.forkserver_main import Exited, Forked, ForkFailed
from durable_engine.incarnation import Incarnation, Launch
from durable_engine.restarts import Restarts
from durable_engine.strikes import Strikes, describe_exit, is_strike
from durable_engine.watchdog import Verdict, Watchdog, is_stopped
from durable_shards.board import BoardReader, monotonic_ms
from durable_shards.control import (
    EXIT_FENCED,
    Answer,
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
    ShardConfig,
    Unparked,
)
from durable_shards.wire import ShardRoute
from durable_storage.errors import Unavailable

_log = logging.getLogger("durable_engine.supervisor")

State = Literal["starting", "up", "down", "failing", "draining", "stopped"]
Intent = Literal["serve", "restart", "stop"]

MakeConfig = Callable[["ShardKeeper"], ShardConfig]


class ShardKeeper:
    """One shard as its supervisor sees it."""

    def __init__(
        self,
        shard: int,
        partitions: range,
        *,
        loop: asyncio.AbstractEventLoop,
        board: BoardReader,
        watchdog: Watchdog,
        strikes: Strikes,
        make_config: MakeConfig,
        launch: Launch,
        on_change: Callable[[], None],
        on_parked: Callable[[], None],
        on_drained: Callable[[], None],
        on_fenced: Callable[[str], None],
    ) -> None:
        self.shard: int = shard
        self.partitions: range = partitions
        self.state: State = "stopped"
        self.incarnation: int = 0
        """Number of the shard's processes so far."""
        self.endpoint: str = ""
        self.epoch: int = 0
        self.last_error: str = ""
        self.accept_data_loss: bool = False
        self.restarts: Restarts = Restarts()
        self.first_outcome: asyncio.Future[Failed | None] = loop.create_future()
        """Set once the shard is up, or has failed to get up."""
        self.drained: bool = False
        """Asked to stop, it has finished everything of its own and only helps others to."""
        self.ended: asyncio.Event = asyncio.Event()
        """No process of this shard is left, and none will be started."""
        self._loop = loop
        self._board = board
        self._watchdog = watchdog
        self._strikes = strikes
        self._make_config = make_config
        self._launch = launch
        self._on_change = on_change
        self._on_parked = on_parked
        self._on_drained = on_drained
        self._on_fenced = on_fenced
        self._intent: Intent = "serve"
        self._seen_seq = 0
        self._process: Incarnation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.Task[None] | None = None

    # What the supervisor asks for.

    def start(self) -> None:
        """Have the fork server make a shard."""
        self._timer = None
        self.incarnation += 1
        self._board.renew(monotonic_ms())
        self._process = Incarnation(self.shard, self._loop, self._on_message)
        self._become("failing" if self.restarts.failing else "starting")
        try:
            self._process.launch(self._launch, self._make_config(self))
        except OSError as error:
            self._process.reason = self.last_error or f"no fork server: {error.strerror}"
            self._loop.call_soon(self._buried, EXIT_FENCED)

    def restart(self, drain_seconds: float) -> None:
        """Drain the shard, then start it again; no call fails by it."""
        self.restarts.forgive()
        if self._process is None:
            self._cancel_timer()
            self._intent = "serve"
            self.start()
        elif self._intent == "serve":
            self._leave("restart", drain_seconds)

    def accept_loss(self, drain_seconds: float) -> None:
        """Start the shard on what its store still has."""
        self.accept_data_loss = True
        self.restart(drain_seconds)

    def stop(self, drain_seconds: float) -> None:
        """Drain the shard for good; `ended` is set when it is gone."""
        self._cancel_timer()
        if self._process is None:
            self._intent = "stop"
            self._stopped()
        else:
            self._leave("stop", drain_seconds)

    def finish(self) -> None:
        """Nobody needs this shard any more: a drained one exits."""
        self.tell(Finish())

    def kill(self) -> None:
        """End the process now. A keeper that is not stopping starts another."""
        if self._process is not None:
            self._process.kill()

    def ask(self, op: str, arguments: dict[str, Any]) -> asyncio.Future[Any]:
        """Ask the shard something; fails with Unavailable when it is not there or dies meanwhile."""
        if self._process is not None and self.state in ("up", "draining"):
            return self._process.ask(op, arguments)
        refused = self._loop.create_future()
        refused.set_exception(Unavailable(f"shard {self.shard} is {self.state}"))
        return refused

    def tell(self, message: Routes | Park | Finish) -> None:
        """Pass something on to the shard, if there is one."""
        if self._process is not None:
            self._process.send(message)

    def remember(self, seq: int) -> None:
        """Somebody was told of commit `seq`: a store that shows less has lost it."""
        self._seen_seq = max(self._seen_seq, seq)

    def lost_the_fork_server(self, reason: str) -> None:
        """Nobody reaps the shard any more: kill it, and see for ourselves that it is gone."""
        if self._process is None:
            self.last_error = reason
            return
        self._process.reason = reason
        self._process.kill_and_see(lambda: self._buried(-signal.SIGKILL))

    @property
    def acknowledged_seq(self) -> int:
        """The last commit that anybody was told of."""
        return max(self._seen_seq, self._board.read().seq)

    # What happens to the shard.

    def on_event(self, event: Forked | ForkFailed | Exited, pidfd: int | None) -> None:
        """News of the fork server."""
        process = self._process
        if process is None:
            if pidfd is not None:
                os.close(pidfd)
            return
        if isinstance(event, Forked):
            process.forked(event.pid, pidfd)
            self._board.renew(monotonic_ms())  # the fork server may have been busy with imports for long
            self._on_change()
        elif isinstance(event, ForkFailed):
            process.reason = f"no new process: {event.message}"
            self._buried(EXIT_FENCED)
        elif event.pid == process.pid:
            self._buried(event.status)

    def look(self, now_ms: int) -> None:
        """The watchdog's round."""
        process = self._process
        if process is None or not process.runs or process.condemned:
            return
        verdict = self._watchdog.judge(self._board.heartbeat_ms(), now_ms)
        if verdict is not Verdict.FINE:
            process.condemned = verdict is Verdict.KILL
            self._stall = self._loop.create_task(self._stalled(process, verdict))

    @property
    def pid(self) -> int:
        """Of the process; 0 when there is none."""
        return self._process.pid if self._process is not None and self._process.runs else 0

    def route(self) -> ShardRoute:
        """This shard's line of the routing table."""
        reachable = self.state in ("up", "draining")
        return ShardRoute(
            self.shard,
            self.endpoint if reachable else "",
            self.epoch,
            (self.partitions.start, self.partitions.stop),
            self.state,
            self.pid,
        )

    def describe(self) -> dict[str, Any]:
        """What `shards list` shows."""
        reading = self._board.read()
        return {
            "shard": self.shard,
            "pid": self.pid,
            "state": self.state,
            "endpoint": self.endpoint,
            "partitions": [self.partitions.start, self.partitions.stop],
            "epoch": self.epoch,
            "seq": self.acknowledged_seq,
            "restarts": self.restarts.total,
            "heartbeat_ms": monotonic_ms() - reading.heartbeat_ms if self.pid else None,
            "running": reading.running if self.pid else None,
            "last_error": self.last_error,
        }

    # Inside.

    def _leave(self, intent: Intent, drain_seconds: float) -> None:
        assert self._process is not None
        self._intent = intent
        self._become("draining")
        self._process.send(Drain(drain_seconds))
        # A shard that does not even get as far as its own deadline is stuck.
        self._timer = self._loop.call_later(drain_seconds + 1.0, self.kill)

    def _on_message(self, message: FromShard) -> None:
        process = self._process
        assert process is not None
        match message:
            case Ready(endpoint, epoch, seq):
                self.endpoint, self.epoch = endpoint, epoch
                if self.accept_data_loss:
                    self.accept_data_loss, self._seen_seq = False, 0
                self.remember(seq)
                self.restarts.came_up(self._loop.time())
                took = self._loop.time() - process.started_at
                _log.info("shard %d is up: pid %d, epoch %d, after %.3f s", self.shard, self.pid, epoch, took)
                if self._intent == "serve":
                    self._become("up")
                self._report_first(None)
            case Failed(error, traceback):
                process.failed = message
                process.reason = f"{error.get('type', 'Error')}: {error.get('message', '')}"
                _log.error("shard %d gives up: %s\n%s", self.shard, process.reason, traceback)
            case Drained():
                self.drained = self._intent == "stop"
                if self.drained:
                    self._on_drained()
                else:
                    self.finish()
            case FencedOff(text):
                process.reason = text
                self._on_fenced(text)
            case EpochChanged(epoch):
                self.epoch = epoch
                self._on_change()
            case Unparked(address):
                self._strikes.unpark(address)
                self._on_parked()
                _log.info("%s was unparked", address)
            case Answer(number, value):
                process.answered(number, value)

    async def _stalled(self, process: Incarnation, verdict: Verdict) -> None:
        running = self._board.read().running
        stack = await process.stack()
        if self._process is not process:
            return
        where = f" in a turn of {running}" if running else ""
        age_ms = monotonic_ms() - self._board.heartbeat_ms()
        if verdict is Verdict.WARN:
            _log.warning("shard %d has been busy for %d ms%s:\n%s", self.shard, age_ms, where, stack)
            return
        if is_stopped(process.pid):
            process.condemned = False  # by whoever stopped it, not by its objects
            process.reason = f"stopped by a signal for {age_ms} ms"
            _log.error("shard %d was %s: killed", self.shard, process.reason)
        else:
            process.reason = f"event loop stuck for {age_ms} ms{where}"
            _log.error("shard %d: %s, killed. Its stack:\n%s", self.shard, process.reason, stack)
        process.kill()

    def _buried(self, status: int) -> None:
        """The process is gone, for certain."""
        process, self._process = self._process, None
        if process is None:
            return
        self._cancel_timer()
        self._count_strike(status, process.condemned)
        self.remember(self._board.read().seq)
        if crash := process.bury():
            _log.error("shard %d left this stack behind:\n%s", self.shard, crash)
        endpoints.forget(self.endpoint)
        if self._intent == "stop":
            self._report_first(process.failed)
            self._stopped()
        elif self._intent == "restart":
            self._intent = "serve"
            self.start()
        else:
            self._died(status, process)

    def _stopped(self) -> None:
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

    def _count_strike(self, status: int, killed_by_watchdog: bool) -> None:
        running = self._board.read().running
        if running is None or not is_strike(status, killed_by_watchdog=killed_by_watchdog):
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

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _become(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._on_change()
