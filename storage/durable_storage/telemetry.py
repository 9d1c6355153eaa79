"""The bus of events: whoever watches the engine attaches a function to the names that it wants to hear of.

The form is that of Erlang's `telemetry`: an event is a name, measurements (numbers) and metadata (what they are
about), its handlers are plain functions called on the spot, and one that raises is detached, because telemetry must
never break what it watches. There is one bus per process, and it knows nothing of what it carries: who emits an
event builds it only when somebody listens (`wanted`, `wanted_of`), so that a silent bus costs a look at a dict.

It lives in the lowest layer because that is where events begin; users reach it as `durable_engine.events`.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from fnmatch import fnmatchcase
from inspect import iscoroutinefunction
from typing import Any, Final

Handler = Callable[[str, dict[str, Any], dict[str, Any]], object]
"""`function(name, measurements, metadata)`; what it returns is ignored."""

NAMES: Final = (
    "storage.save.start",
    "storage.save.stop",
    "storage.save.exception",
    "storage.load.start",
    "storage.load.stop",
    "storage.load.exception",
    "storage.delete.start",
    "storage.delete.stop",
    "storage.delete.exception",
    "object.activated",
    "object.hibernated",
    "object.evicted",
    "alarm.scheduled",
    "alarm.cancelled",
    "alarm.fired",
    "alarm.failed",
    "alarm.parked",
    "shard.started",
    "shard.drained",
    "shard.stopped",
    "shard.fenced",
    "shard.failed",
)
"""Every event there is. `docs/guide/telemetry.md` says when each happens and what it carries."""

_log = logging.getLogger("durable_engine.events")

_changing = threading.Lock()
_attached: list[tuple[Handler, frozenset[str]]] = []
_handlers: dict[str, tuple[Handler, ...]] = {}
"""By name, only those with a handler. Replaced as a whole, never changed: an `emit` under way keeps what it has."""
_families: frozenset[str] = frozenset()


def attach(function: Handler, *patterns: str) -> None:
    """Call `function(name, measurements, metadata)` at each event that one of `patterns` names; without any, at all.

    A pattern is a name or has wildcards: "storage.save.stop", "storage.*", "*.exception". A function that is attached
    again hears of both. Raises ValueError for a pattern that no event fits, TypeError for a function that cannot be
    called on the spot; nothing is attached then.
    """
    if not callable(function):
        raise TypeError(f"a handler of events is a function of (name, measurements, metadata), not {function!r:.200}")
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise TypeError(f"{function!r:.200} is async, and no event waits for it: attach a function that makes a task")
    names = frozenset(name for pattern in patterns or ("*",) for name in _matching(pattern))
    with _changing:
        kept = [each for each in _attached if each[0] != function]
        names = names.union(*(each[1] for each in _attached if each[0] == function))
        _replace([*kept, (function, names)])


def detach(function: Handler) -> bool:
    """Call `function` no more. False when it was not attached."""
    with _changing:
        kept = [each for each in _attached if each[0] != function]
        was_attached = len(kept) < len(_attached)
        if was_attached:
            _replace(kept)
    return was_attached


def wanted_of(family: str) -> bool:
    """Whether anybody listens to an event of "storage", "object", "alarm" or "shard"."""
    return family in _families


def wanted(name: str) -> bool:
    """Whether anybody listens to this event."""
    return name in _handlers


def emit(name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Tell the handlers of `name`, in the order in which they were attached. Raises nothing of theirs.

    Each gets dicts of its own. What builds large metadata asks `wanted` first.
    """
    assert name in NAMES, f"{name} is not in telemetry.NAMES"
    for function in _handlers.get(name, ()):
        try:
            function(name, dict(measurements), dict(metadata))
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever it raised, a sys.exit() included: the event must not be what ends the call
            detach(function)
            _log.exception("%r raised at %s and was detached: it hears of no event any more", function, name)


def failure(error: BaseException) -> dict[str, str]:
    """The metadata of what went wrong: `kind` (the exception's class), `reason` (its message), `traceback` (text)."""
    text = "".join(traceback.format_exception(error, limit=-50))
    return {"kind": type(error).__name__, "reason": str(error), "traceback": text}


def _matching(pattern: str) -> list[str]:
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is the name of an event, such as 'storage.save.stop', not {pattern!r:.200}")
    found = [name for name in NAMES if fnmatchcase(name, pattern)]
    if not found:
        raise ValueError(f"no event is called {pattern!r} or fits it as a pattern. The events are: {', '.join(NAMES)}")
    return found


def _replace(attached: list[tuple[Handler, frozenset[str]]]) -> None:
    global _attached, _handlers, _families  # noqa: PLW0603 - the bus is the one thing that a process has one of
    _attached = attached
    by_name = {name: tuple(function for function, names in attached if name in names) for name in NAMES}
    _handlers = {name: functions for name, functions in by_name.items() if functions}
    _families = frozenset(name.partition(".")[0] for name in _handlers)
