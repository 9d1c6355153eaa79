"""`durable-engine reload`: the shards move, one by one, to the code that is on disk now.

First another fork server imports the objects while the shards serve on. If that fails, or if the new code cannot serve
what the old one has stored, the reload is refused and nothing was changed. Then each shard in turn gives way to a
process of the new code (`renewal`), and the next one follows only when it serves. The first that does not come up
ends the reload: it goes back to the code it had, and the rest was not touched.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Literal

from durable_engine.forkserver import ObjectsFailedToLoad
from durable_engine.renewal import renew
from durable_storage.errors import DurableError

if TYPE_CHECKING:
    from durable_engine.forkserver import ForkServer
    from durable_engine.supervisor import Supervisor

_log = logging.getLogger("durable_engine.supervisor")

IMPORT_SECONDS_MAX: Final = 300.0

State = Literal["importing", "rolling", "done", "refused", "failed"]


class Reload:
    """One reload, under way or over."""

    def __init__(self, supervisor: Supervisor, *, allow_missing: bool) -> None:
        self.state: State = "importing"
        self._supervisor = supervisor
        self._allow_missing = allow_missing
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._seconds: float | None = None
        self._problem = ""
        self._traceback = ""
        self._shards: list[dict[str, Any]] = [
            {"shard": keeper.shard, "before": keeper.pid, "after": None, "seconds": None}
            for keeper in supervisor.keepers
        ]

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self._seconds is not None

    def describe(self) -> dict[str, Any]:
        """What `reload_status` tells."""
        seconds = self._loop.time() - self._began if self._seconds is None else self._seconds
        return {
            "state": self.state,
            "seconds": round(seconds, 3),
            "shards": self._shards,
            "problem": self._problem,
            "traceback": self._traceback,
        }

    async def run(self) -> None:
        """All of it. Raises nothing: what went wrong is told by `describe` and in the log."""
        _log.info("reload: importing the objects anew")
        try:
            code = await self._import()
            if code is not None:
                await self._roll(code)
        except Exception as error:  # a reload that fails must not be the end of a server that serves
            _log.exception("reload: failed")
            self.state, self._problem = "failed", f"{type(error).__name__}: {error}"
        finally:
            self._seconds = self._loop.time() - self._began

    async def _import(self) -> ForkServer | None:
        servers = self._supervisor.fork_servers
        try:
            async with asyncio.timeout(IMPORT_SECONDS_MAX):
                code = await servers.load_anew()
        except ObjectsFailedToLoad as error:
            self._refuse(f"the objects cannot be imported: {error}", error.traceback)
            return None
        except (TimeoutError, OSError) as error:
            self._refuse(f"the objects could not be imported within {IMPORT_SECONDS_MAX:g} s: {error}")
            return None
        problem = "" if self._allow_missing else self._what_is_missing(code)
        if problem:
            servers.settle(code)
            self._refuse(f"{problem}. --allow-missing goes ahead all the same")
            return None
        return code

    def _what_is_missing(self, code: ForkServer) -> str:
        """Why the new code cannot serve what the old one did, or an empty text."""
        for keeper in self._supervisor.keepers:
            for name, version in keeper.code.classes.items():
                if name not in code.classes:
                    return (
                        f"the new code has no class {name!r}: calls to its objects would fail, their alarms would wait"
                    )
                if code.classes[name] < version:
                    return (
                        f"{name!r} has schema version {code.classes[name]} in the new code and {version} in the old: "
                        "what is stored could not be read"
                    )
        return ""

    async def _roll(self, code: ForkServer) -> None:
        self.state = "rolling"
        supervisor = self._supervisor
        try:
            for keeper, told in zip(supervisor.keepers, self._shards, strict=True):
                began = self._loop.time()
                await renew(keeper, supervisor.config.drain_timeout, code)
                told["after"], told["seconds"] = keeper.pid, round(self._loop.time() - began, 3)
                _log.info("reload: shard %d runs the new code in pid %d", keeper.shard, keeper.pid)
        except DurableError as error:
            self.state = "failed"
            done = sum(told["after"] is not None for told in self._shards)
            rest = f"{done} of {len(self._shards)} shards run the new code, the others run the old one"
            self._problem = f"{error.message}. {rest}"
            _log.error("reload: stopped. %s", self._problem)
        else:
            self.state = "done"
            _log.info("reload: done, %d shards in %.2f s", len(self._shards), self._loop.time() - self._began)
        finally:
            supervisor.fork_servers.settle(code)

    def _refuse(self, problem: str, traceback: str = "") -> None:
        self.state, self._problem, self._traceback = "refused", problem, traceback
        _log.error("reload: refused, nothing was changed. %s\n%s", problem, traceback)


class Reloads:
    """The reloads of one supervisor: one at a time."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._last: Reload | None = None

    def begin(self, *, allow_missing: bool = False) -> dict[str, Any]:
        """Begin one. Raises DurableError while another is under way, or the server is starting or stopping."""
        if self._last is not None and not self._last.is_over:
            told = self._last.describe()
            said = f"a reload is under way, {told['state']} since {told['seconds']:.1f} s"
            raise DurableError(f"{said}: this one was not begun. Try again when that one is over", retryable=True)
        if not self._supervisor.serves:
            raise DurableError("the server is starting or stopping: nothing was reloaded")
        self._last = Reload(self._supervisor, allow_missing=allow_missing)
        self._supervisor.in_background(self._last.run())
        return self._last.describe()

    def describe(self) -> dict[str, Any] | None:
        """The one under way, or else the last; None when there was none."""
        return self._last.describe() if self._last is not None else None

    def on_signal(self) -> None:
        """SIGHUP: the log tells what comes of it."""
        _log.info("SIGHUP: reloading")
        try:
            self.begin()
        except DurableError as error:
            _log.error("%s", error.message)
