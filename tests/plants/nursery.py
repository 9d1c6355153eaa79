"""A process that has imported what takes time, and forks one for each run of tests, where a fault is planted.

`python -m tests.plants.nursery` reads orders from its standard input and writes what became of them, JSON, one a line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

UNWIND_SECONDS: Final = 20.0
"""For a pytest that was interrupted: its tests may have started servers."""
OPTIONS: Final = ("-q", "-p", "no:cacheprovider", "-p", "tests.plants.plugin")
# Its own modules are the engine's and are imported already; what is asserted in tests is told as ever.
REWRITING: Final = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


def main() -> None:
    """Until the end of the input."""
    import hypothesis.stateful

    import durable_engine.testing
    from tests.plants.plant import all_plants

    assert hypothesis.stateful
    assert durable_engine.testing
    assert all_plants()
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            grow(order)
        print(json.dumps(waited_for(pid, order["seconds"])), flush=True)


def grow(order: dict[str, Any]) -> NoReturn:
    """Run the tests of an order in this process, and end it."""
    import pytest

    status = 255
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(order["environment"])
        for descriptor, (name, flags) in enumerate(((os.devnull, os.O_RDONLY), *[(order["output"], os.O_WRONLY)] * 2)):
            os.dup2(os.open(name, flags | os.O_APPEND), descriptor)
        status = int(pytest.main([*OPTIONS, *REWRITING, *order["words"]]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def waited_for(pid: int, seconds: float) -> int | None:
    """The exit code of a child, None if it was still running then."""
    descriptor = os.pidfd_open(pid)
    try:
        is_late = not select.select([descriptor], [], [], seconds)[0]
        if is_late:
            os.kill(pid, signal.SIGINT)
            if not select.select([descriptor], [], [], UNWIND_SECONDS)[0]:
                os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(descriptor)
    return None if is_late else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
