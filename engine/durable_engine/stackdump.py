"""Stacks of a shard that no longer answers: `faulthandler` writes them into a file that the supervisor holds
open.

`faulthandler` needs no cooperation of the interpreter's loop: its signal handler writes in the middle of
`while True` or of a C call, and on SIGSEGV and its like as well. An anonymous file outlives the process, a
pipe might block it.
"""

from __future__ import annotations

import asyncio
import os
import signal

DUMP_SIGNAL = signal.SIGUSR2
_POLL_SECONDS = 0.02
_POLLS_MAX = 15
_BYTES_MAX = 64 * 1024


class StackDump:
    """The dump file of one shard process."""

    def __init__(self) -> None:
        self.descriptor: int = os.memfd_create("durable-stacks")
        self._read = 0

    async def request(self, pidfd: int) -> str:
        """Have the process dump its stacks, and wait briefly for the text; what there is when it does not."""
        if self.descriptor < 0:
            return ""
        size = os.fstat(self.descriptor).st_size
        try:
            signal.pidfd_send_signal(pidfd, DUMP_SIGNAL)
        except ProcessLookupError:
            return ""
        for _ in range(_POLLS_MAX):
            await asyncio.sleep(_POLL_SECONDS)
            if self.descriptor < 0:
                return ""
            before, size = size, os.fstat(self.descriptor).st_size
            if size > self._read and size == before:
                break
        return self.rest() or "(it does not even answer a signal)"

    def rest(self) -> str:
        """What was written and not yet read."""
        if self.descriptor < 0:
            return ""
        data = os.pread(self.descriptor, _BYTES_MAX, self._read)
        self._read += len(data)
        return data.decode(errors="replace").rstrip()

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
