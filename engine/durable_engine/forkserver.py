"""The supervisor's handle of its fork server: start it, ask it for shards, hear of their ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Final

import msgspec

from durable_engine import forkserver_main
from durable_engine.forkserver_main import (
    MESSAGE_BYTES_MAX,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    FromForkServer,
    Load,
    Loaded,
    LoadFailed,
    encode,
)
from durable_shards.board import Boards
from durable_shards.control import ShardConfig

_log = logging.getLogger("durable_engine.supervisor")

_PROGRAM: Final = "from durable_engine.forkserver_main import execute; execute()"
_decoder: Final[msgspec.msgpack.Decoder[FromForkServer]] = msgspec.msgpack.Decoder(FromForkServer)


class ObjectsFailedToLoad(Exception):
    """A module with objects could not be imported; nothing was started."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback: str = traceback


class ForkServer:
    """One fork server process."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid: int = pid
        self._link = link
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_event: Callable[[Forked | ForkFailed | Exited, int | None], None] | None = None
        self._on_lost: Callable[[str], None] | None = None
        self._last_words = "the fork server died"
        self.classes: dict[str, int] = {}
        """Schema version by stored name."""

    @classmethod
    def start(cls, boards: Boards, load: Load) -> ForkServer:
        """Start a fork server that imports at once what `load` says.

        As long as this process has neither threads nor an event loop it simply forks (milliseconds);
        afterwards, when a fork server was lost, it executes a new interpreter.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            if threading.active_count() == 1 and asyncio._get_running_loop() is None:  # noqa: SLF001
                pid = _fork(ours, theirs, boards)
            else:
                pid = _execute(theirs, boards)
        server = cls(pid, ours)
        ours.send(encode(load))
        return server

    async def loaded(self) -> dict[str, int]:
        """Wait until the user's modules are imported; the classes. Raises ObjectsFailedToLoad."""
        loop = asyncio.get_running_loop()
        self._link.setblocking(False)
        data = await loop.sock_recv(self._link, MESSAGE_BYTES_MAX)
        if not data:
            message = "the process that imports the objects died while it did so"
            raise ObjectsFailedToLoad(message, "")
        answer = _decoder.decode(data)
        if isinstance(answer, LoadFailed):
            raise ObjectsFailedToLoad(answer.message, answer.traceback)
        assert isinstance(answer, Loaded)
        self.classes = answer.classes
        return answer.classes

    def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_event: Callable[[Forked | ForkFailed | Exited, int | None], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Pass on what happens to the shards (a Forked comes with the new process's pidfd), and why it ended."""
        self._link.setblocking(False)
        self._loop, self._on_event, self._on_lost = loop, on_event, on_lost
        loop.add_reader(self._link.fileno(), self._readable)

    def fork(self, config: ShardConfig, control: socket.socket, dump: int, *, number: int, page: int) -> None:
        """Ask for a shard; the answer is a Forked or a ForkFailed event. Raises OSError when it is gone."""
        socket.send_fds(self._link, [encode(Fork(config, number, page))], [control.fileno(), dump], socket.MSG_NOSIGNAL)

    def kill(self) -> None:
        """End it now; `on_lost` follows."""
        if self._link.fileno() >= 0:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the fork server: it ends, and all that is left of its shards ends with it."""
        if self._link.fileno() < 0:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._link.fileno())
        self._link.close()
        os.kill(self.pid, signal.SIGKILL)  # not yet waited for, so the pid is still its own
        os.waitpid(self.pid, 0)

    def _readable(self) -> None:
        assert self._on_event is not None
        assert self._on_lost is not None
        while self._link.fileno() >= 0:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._link, MESSAGE_BYTES_MAX, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.close()
                self._on_lost(self._last_words)
                return
            event = _decoder.decode(data)
            if isinstance(event, Forked | ForkFailed | Exited):
                self._on_event(event, descriptors[0] if descriptors else None)
            elif isinstance(event, Loaded):
                self.classes = event.classes
            elif isinstance(event, LoadFailed):
                self._last_words = f"the objects cannot be imported any more: {event.message}"
                _log.error("%s\n%s", self._last_words, event.traceback)


def _fork(ours: socket.socket, theirs: socket.socket, boards: Boards) -> int:
    supervisor_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        forkserver_main.main(theirs, boards, supervisor_pid)
    return pid


def _execute(theirs: socket.socket, boards: Boards) -> int:
    arguments = (theirs.fileno(), boards.descriptor, boards.count, os.getpid())
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _PROGRAM, *map(str, arguments)],
        pass_fds=(theirs.fileno(), boards.descriptor),
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )
    process.returncode = 0  # waited for by `ForkServer.close`, not by subprocess
    return process.pid
