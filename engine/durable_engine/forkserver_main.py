"""The fork server: the process that imports the user's classes once and becomes a shard whenever one is
wanted.

The idea is the zygote of Android and `multiprocessing.forkserver`: a process that has everything imported
but no thread, no event loop and no socket is safe to fork, its children share its memory, and a new shard is
there in milliseconds instead of the third of a second that an interpreter and its imports take. It is
single-threaded, does nothing but fork and wait, and outlives neither its supervisor nor lets its children
outlive itself.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgspec

from durable_shards.board import Boards
from durable_shards.control import Inheritance, ShardConfig
from durable_shards.lifeline import die_with_parent, name_process

_log = logging.getLogger("durable_engine.forkserver")

MESSAGE_BYTES_MAX: Final = 128 * 1024
_TRACEBACK_CHARACTERS_MAX: Final = 20_000
_MESSAGE_CHARACTERS_MAX: Final = 2_000

ShardMain = Callable[[Inheritance], int]
"""What a forked process runs; its exit code."""


class Load(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → fork server, first of all: import these."""

    objects: tuple[str, ...]
    path: tuple[str, ...]
    shard_main: str
    """`module:function`, a ShardMain."""
    modules: tuple[str, ...] = ()
    """Of the engine, which shards would otherwise import one by one."""


class Fork(msgspec.Struct, tag=True, frozen=True):
    """Supervisor → fork server: become a shard. Carries the control channel and the dump file."""

    config: ShardConfig
    number: int
    """Of the shard's process: what is said of it carries the same."""
    page: int


class Loaded(msgspec.Struct, tag=True, frozen=True):
    """Fork server → supervisor: these classes are imported."""

    classes: dict[str, int]
    """Schema version by stored name."""


class LoadFailed(msgspec.Struct, tag=True, frozen=True):
    """Fork server → supervisor: the user's modules do not import; the fork server exits."""

    message: str
    traceback: str


class Forked(msgspec.Struct, tag=True, frozen=True):
    """Fork server → supervisor: a shard was started. Carries a pidfd, by which it can be signalled safely."""

    shard: int
    number: int
    pid: int


class ForkFailed(msgspec.Struct, tag=True, frozen=True):
    """Fork server → supervisor: no process or memory to be had."""

    shard: int
    number: int
    message: str


class Exited(msgspec.Struct, tag=True, frozen=True):
    """Fork server → supervisor: a shard is gone and reaped. `status` is negative for a signal."""

    shard: int
    number: int
    pid: int
    status: int


FromForkServer = Loaded | LoadFailed | Forked | ForkFailed | Exited

encode: Final = msgspec.msgpack.Encoder().encode
_orders: Final[msgspec.msgpack.Decoder[Load | Fork]] = msgspec.msgpack.Decoder(Load | Fork)


def main(link: socket.socket, boards: Boards, supervisor_pid: int) -> NoReturn:
    """The whole life of a fork server. Never returns: what was below on the stack is the supervisor's."""
    status = 1
    try:
        die_with_parent(supervisor_pid)
        name_process("durable-fork")
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the supervisor decides when we end
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the supervisor's stdin is its settings and its lifeline
        status = _ForkServer(link, boards).run()
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


class _ForkServer:
    def __init__(self, link: socket.socket, boards: Boards) -> None:
        self._link = link
        self._boards = boards
        self._children: dict[int, tuple[int, int, int]] = {}
        """pidfd → (shard, number, pid)"""
        self._poll = select.poll()

    def run(self) -> int:
        order = self._receive()
        if order is None:
            return 0
        load, _ = order
        assert isinstance(load, Load)
        try:
            registry = _load(load)
            shard_main = _resolve(load.shard_main)
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS_MAX]
            self._say(LoadFailed(message, _short_traceback(error)))
            return 1
        self._say(Loaded({name: spec.options.schema_version for name, spec in sorted(registry.classes.items())}))
        gc.collect()
        gc.freeze()
        self._poll.register(self._link, select.POLLIN)
        while self._serve_once(shard_main, registry):
            pass
        return 0

    def _serve_once(self, shard_main: ShardMain, registry: Any) -> bool:
        for descriptor, _ in self._poll.poll():
            if descriptor in self._children:
                self._reap(descriptor)
                continue
            order = self._receive()
            if order is None:
                return False
            fork, descriptors = order
            assert isinstance(fork, Fork)
            self._fork(fork, descriptors, shard_main, registry)
        return True

    def _fork(self, fork: Fork, descriptors: list[int], shard_main: ShardMain, registry: Any) -> None:
        control, dump = descriptors
        config = fork.config
        server_pid = os.getpid()
        _flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._say(ForkFailed(config.shard, fork.number, str(error)))
            os.close(control)
            os.close(dump)
            return
        if pid == 0:
            page = self._boards.page(fork.page)
            channel = socket.socket(fileno=control)
            self._become_shard(server_pid, shard_main, Inheritance(config, channel, page, dump, registry))
        os.close(control)
        os.close(dump)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (config.shard, fork.number, pid)
        self._poll.register(pidfd, select.POLLIN)
        self._say(Forked(config.shard, fork.number, pid), pidfd)

    def _become_shard(self, server_pid: int, shard_main: ShardMain, inheritance: Inheritance) -> NoReturn:
        status = 1
        try:
            die_with_parent(server_pid)
            self._link.close()
            for pidfd in self._children:
                os.close(pidfd)
            status = shard_main(inheritance)
        except SystemExit as exit_:  # a handler may call sys.exit: it is the same as os._exit, but politer
            status = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            _flush()
            os._exit(status)

    def _reap(self, pidfd: int) -> None:
        shard, number, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._say(Exited(shard, number, pid, os.waitstatus_to_exitcode(status)))

    def _receive(self) -> tuple[Load | Fork, list[int]] | None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._link, MESSAGE_BYTES_MAX, 4)
        except OSError:
            return None
        return (_orders.decode(data), descriptors) if data else None

    def _say(self, message: FromForkServer, *descriptors: int) -> None:
        try:
            socket.send_fds(self._link, [encode(message)], descriptors, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # the supervisor is gone; the next receive says so


def _load(load: Load) -> Any:
    from durable_shards.registry import Registry  # noqa: PLC0415 - what it needs is inherited by every shard

    for entry in reversed(load.path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    for module in load.modules:
        importlib.import_module(module)
    registry = Registry.load(load.objects)
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        _log.warning("importing the objects started threads (%s): they do not exist in the shards", names)
    return registry


def _resolve(name: str) -> ShardMain:
    module, _, function = name.partition(":")
    shard_main: ShardMain = getattr(importlib.import_module(module), function)
    return shard_main


def _short_traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS_MAX:]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # a handler has closed or replaced it, or nobody reads it: what it held is lost with the process


def execute() -> NoReturn:
    """The entry of a fork server that was started as a program of its own; see `forkserver.ForkServer.start`."""
    link, boards, pages, supervisor_pid = (int(argument) for argument in sys.argv[1:5])
    main(socket.socket(fileno=link), Boards(pages, boards), supervisor_pid)
