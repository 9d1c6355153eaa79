"""Objects in a storm of alarms: each firing leaves its mark in the state, and each run of the method one outside."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Any

from durable_engine import DurableObject, alarm, field, handler

RUNS_VARIABLE = "DURABLE_STORM_RUNS"
"""Environment variable with the file that gets a line, the process id, for each run of an alarm's method."""


class Storm(DurableObject):
    """Alarms of any name. What is armed stands in the state too, so that state and rows can be compared."""

    armed: dict[str, str] = field(default_factory=dict)
    """Name: token, of each alarm that is still to fire."""
    fired: list[list[Any]] = field(default_factory=list)
    """[token, step, armed for, fired at, process id] of each firing."""
    cancelled: list[str] = field(default_factory=list)
    """Tokens."""
    stopping: bool = False

    @handler
    def arm(self, name: str, token: str, at: datetime, left: int, every: float | None, deadly_ms: float | None) -> None:
        rule = None if every is None else timedelta(seconds=every)
        payload = {"token": token, "step": 0, "left": left, "deadly_ms": deadly_ms}
        self.alarms.schedule(name, at=at, every=rule, payload=payload)
        self.armed[name] = token

    @handler
    def cancel(self, name: str) -> bool:
        was_armed = self.alarms.cancel(name)
        assert was_armed is (name in self.armed), f"{name}: {was_armed}, {self.armed}"
        if was_armed:
            self.cancelled.append(self.armed.pop(name))
        return was_armed

    @handler
    def stop(self) -> None:
        """Repeating alarms fire once more, and no more."""
        self.stopping = True

    def handle_alarm(self, name: str, payload: Any, at: datetime) -> None:
        note_run()
        self.fired.append(
            [payload["token"], payload["step"], at.isoformat(), datetime.now(UTC).isoformat(), os.getpid()]
        )
        if payload["left"] > 0:
            following = {**payload, "step": payload["step"] + 1, "left": payload["left"] - 1}
            self.alarms.schedule(name, after=timedelta(milliseconds=30 * payload["left"]), payload=following)
        elif payload["left"] == 0 or self.stopping:
            self.alarms.cancel(name)  # of one that repeats: its next tick
            self.armed.pop(name, None)
        if payload["deadly_ms"] is not None and is_first(payload["token"]):
            die(payload["deadly_ms"] / 1000)


class Spinner(DurableObject):
    """An alarm that arms itself again at once, for ever, next to an object that people call."""

    rounds: int = 0

    @handler
    def begin(self) -> None:
        self.alarms.schedule(Spinner.spin, after=timedelta(0))

    @handler(readonly=True)
    def get(self) -> int:
        return self.rounds

    @alarm
    def spin(self) -> None:
        note_run()
        self.rounds += 1
        self.alarms.schedule(Spinner.spin, after=timedelta(0))

    @handler
    def count(self) -> int:
        self.rounds += 1
        return self.rounds


def note_run() -> None:
    """Leave a line outside, which no rollback takes back."""
    if path := os.environ.get(RUNS_VARIABLE):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, b"%d\n" % os.getpid())
        os.close(file)


def die(seconds: float) -> None:
    """Kill this process: at once, so that nothing of the turn is committed, or a moment later."""
    if seconds:
        Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def is_first(token: str) -> bool:
    """Whether this was never asked of the token before, in any process."""
    try:
        Path(f"{os.environ[RUNS_VARIABLE]}-{token}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
