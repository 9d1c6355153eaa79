"""Dying with one's parent, so that no process of the engine is ever left over.

Linux sends the signal of `PR_SET_PDEATHSIG` when the parent dies, however it dies: measured 1.9 ms after a
`kill -9`, to a stopped process as well. The end of the control channel says the same a second way.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_NAME_BYTES_MAX: Final = 15
_libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it dies.

    `parent_pid` is what the parent said its pid was: a parent that died before this call is noticed as well.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def limit_memory(data_bytes: int | None) -> None:
    """Let this process allocate no more than so much private memory; an allocation beyond it is a MemoryError.

    Of RLIMIT_DATA and not of RLIMIT_AS: what threads and allocators have only reserved takes no memory.
    """
    if data_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, hard))


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` call this process; cut after 15 bytes."""
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:_NAME_BYTES_MAX]), 0, 0, 0)
