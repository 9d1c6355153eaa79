"""How a supervisor process begins and ends: `durable-engine run`, and the private one of an embedded engine.

The fork server is forked first of all, while this process has neither a thread nor an event loop nor a
socket; only then does the supervisor itself begin.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import uvloop

from durable_engine.forkserver import ForkServer, ObjectsFailedToLoad
from durable_engine.scheduling import check_scheduler
from durable_engine.supervisor import Supervisor, load_of
from durable_engine.supervisor_config import SupervisorConfig
from durable_shards.board import Boards
from durable_shards.errors import error_to_wire
from durable_shards.lifeline import name_process
from durable_shards.logs import configure_logging
from durable_storage.errors import DurableError, Fenced

_log = logging.getLogger("durable_engine.supervisor")

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
_CONFIG_BYTES_MAX: Final = 1024 * 1024

OnReady = Callable[[str], None]
OnError = Callable[[DurableError], None]


def run_supervisor(
    config: SupervisorConfig,
    on_ready: OnReady | None = None,
    on_error: OnError | None = None,
    *,
    parent_fd: int | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; the exit code: 0 stopped as asked, 130 by SIGINT, 1 failed or fenced off.

    `on_ready` gets the public endpoint once every shard serves, `on_error` what went wrong. The end of
    `parent_fd` (a pipe from the embedding program) stops the server as SIGTERM does. To be called from the
    main thread.
    """
    configure_logging("supervisor", config.log_level)
    try:
        interrupted = _run(config, on_ready or _ignore, parent_fd)
    except ObjectsFailedToLoad as error:
        # A declaration that is refused says what is wrong with it; for all else the stack is needed.
        declaration = str(error).startswith("DefinitionError: ")
        problem = DurableError(f"the objects cannot be imported: {str(error).removeprefix('DefinitionError: ')}")
        _report(problem, "" if declaration else error.traceback, on_error)
        return EXIT_FAILED
    except DurableError as error:
        _report(error, "", on_error)
        return EXIT_FAILED
    except Exception as error:
        problem = DurableError(f"the supervisor failed: {type(error).__name__}: {error}")
        _report(problem, traceback.format_exc(), on_error)
        return EXIT_FAILED
    return EXIT_INTERRUPTED if interrupted else EXIT_DONE


def _run(config: SupervisorConfig, on_ready: OnReady, parent_fd: int | None) -> bool:
    check_scheduler(config.alarms, config.store)
    load = load_of(config)
    name_process("durable-engine")
    boards = Boards.of_shards(config.shards)
    fork_server = ForkServer.start(boards, load)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, fork_server, boards, on_ready, parent_fd))
    finally:
        fork_server.close()


def supervise_main(_: Sequence[str] = ()) -> int:
    """`durable-engine _supervise`: settings come as one line of JSON on stdin, whose end stops the server.

    One line of JSON goes to stdout: `{"ready": true, "endpoint": ...}` or `{"error": error map}`. Nothing else
    does: what users' code prints goes to stderr, since nobody reads a pipe for ever.
    """
    stdin, answers = sys.stdin.fileno(), os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(message: dict[str, Any]) -> None:
        os.write(answers, msgspec.json.encode(message) + b"\n")

    try:
        config = SupervisorConfig.from_json(_read_line(stdin))
    except ValueError as error:
        answer({"error": error_to_wire(DurableError(str(error)))})
        return EXIT_FAILED
    return run_supervisor(
        config,
        on_ready=lambda endpoint: answer({"ready": True, "endpoint": endpoint}),
        on_error=lambda error: answer({"error": error_to_wire(error)}),
        parent_fd=stdin,
    )


async def _serve(
    config: SupervisorConfig,
    fork_server: ForkServer,
    boards: Boards,
    on_ready: OnReady,
    parent_fd: int | None,
) -> bool:
    supervisor = Supervisor(config, fork_server, boards)
    if parent_fd is not None:
        _stop_with_parent(supervisor, parent_fd)
    await supervisor.run(on_ready)
    return supervisor.interrupted


def _stop_with_parent(supervisor: Supervisor, parent_fd: int) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(parent_fd, False)

    def readable() -> None:
        try:
            if os.read(parent_fd, 4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        loop.remove_reader(parent_fd)
        _log.info("the embedding program is gone or has closed its engine: stopping")
        supervisor.stop()

    loop.add_reader(parent_fd, readable)


def _read_line(descriptor: int) -> bytes:
    """One line, and not a byte more: what follows is the pipe's end."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < _CONFIG_BYTES_MAX:
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        line += piece
    return bytes(line)


def _report(error: DurableError, stack: str, on_error: OnError | None) -> None:
    if stack:
        _log.error("%s", stack.rstrip())
    if on_error is None or isinstance(error, Fenced):
        level = "fenced off" if isinstance(error, Fenced) else "not started"
        _log.error("%s: %s", level, error.message)
    if on_error is not None:
        on_error(error)


def _ignore(_: str) -> None:
    """The log says where the server is."""
