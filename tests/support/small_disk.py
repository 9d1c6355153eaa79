"""A file system of its own that is full when a test says so: the disk, not a fake of it.

Tried in this order: a tmpfs, mounted; one in a namespace of its own, kept by a process that does nothing else, for
those who may not mount here but may make namespaces; `/dev/shm`, where that is small, as it is in containers, shared
with whoever else is there. Nothing is skipped: when all of it fails, the test fails and says what it needs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path

_PAGE_BYTES = 4096
_SHM = Path("/dev/shm")
_SHM_BYTES_MAX = 256 << 20
_KEEPER = 'mount -t tmpfs -o size="$1",mode=0777 tmpfs "$2" && echo mounted && exec sleep 3600'


class SmallDisk:
    """A directory on a file system with little space."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    @property
    def free_bytes(self) -> int:
        """What is left of it."""
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """Use up all space until `clear`, while others may write at the same time."""
        size = self.free_bytes
        with self._ballast.open("ab") as file:
            while size >= _PAGE_BYTES:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                except OSError as error:
                    if error.errno != ENOSPC:
                        raise
                    size //= 2

    def clear(self) -> None:
        """There is space again."""
        self._ballast.unlink()


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A file system of that size, at `place`, or elsewhere where it cannot be mounted there."""
    place.mkdir(mode=0o777)
    tried = []
    for way in (_mounted, _in_a_namespace, _shared_memory):
        opened = way(place, size_bytes)
        try:
            directory = next(opened)
        except OSError as error:
            tried.append(f"{way.__name__}: {error}")
            continue
        try:
            yield SmallDisk(directory)
        finally:
            next(opened, None)
        return
    raise AssertionError(
        "a small file system is needed: let the tests mount a tmpfs (CAP_SYS_ADMIN), or make a namespace "
        f"(unshare -rm), or give them a /dev/shm of at most {_SHM_BYTES_MAX >> 20} MB. Tried:\n" + "\n".join(tried)
    )


def _mounted(place: Path, size_bytes: int) -> Iterator[Path]:
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0777", "tmpfs", str(place))
    yield place
    _run("umount", "--lazy", str(place))


def _in_a_namespace(place: Path, size_bytes: int) -> Iterator[Path]:
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", _KEEPER, "sh", str(size_bytes), str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as keeper:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"mounted\n":
            keeper.kill()
            raise OSError("no namespace in which to mount")
        yield Path(f"/proc/{keeper.pid}/root{place}")
        keeper.send_signal(signal.SIGKILL)


def _shared_memory(place: Path, size_bytes: int) -> Iterator[Path]:
    found = os.statvfs(_SHM)
    if not size_bytes <= found.f_blocks * found.f_frsize <= _SHM_BYTES_MAX:
        raise OSError(f"{_SHM} has {found.f_blocks * found.f_frsize >> 20} MB")
    directory = _SHM / f"durable-test-{os.getpid()}"
    directory.mkdir(mode=0o777)
    yield directory
    shutil.rmtree(directory)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr.strip())
