"""Where a server and its shards listen, and what stands in the way."""

from __future__ import annotations

import errno
import glob
import ipaddress
import os
import re
import socket
from pathlib import Path

IPC_PATH_BYTES_MAX = 107
"""Of a unix socket's path on Linux."""
_SHARD_SUFFIX_BYTES = 24
_SHARD_SUFFIX = re.compile(r"\.\d+\.\d+\.\d+")


def prepare_bind(bind: str) -> str:
    """What to bind for `--bind`, with a dead server's socket file removed.

    Raises OSError when somebody listens there (ZeroMQ would silently take an ipc path away from its owner),
    and ValueError for an address of no sense.
    """
    check_bind(bind)
    if bind.startswith("ipc://"):
        path = bind.removeprefix("ipc://")
        _remove_stale(path, bind)
        _remove_stale_shards(Path(path))
        return bind
    host, _, port = bind.removeprefix("tcp://").rpartition(":")
    return f"tcp://{host}:*" if port in ("0", "*") else bind


def check_bind(bind: str) -> None:
    """Refuse an address of no sense, by its text alone. Raises ValueError."""
    if bind.startswith("ipc://"):
        path = bind.removeprefix("ipc://")
        if not path or path == "*":
            raise ValueError("an ipc address needs a path: ipc:///run/shop/engine.sock")
        if len(os.fsencode(path)) > IPC_PATH_BYTES_MAX - _SHARD_SUFFIX_BYTES:
            room = IPC_PATH_BYTES_MAX - _SHARD_SUFFIX_BYTES
            raise ValueError(f"the path of {bind!r} is too long: at most {room} bytes; choose a shorter one")
        return
    host, _, port = bind.removeprefix("tcp://").rpartition(":")
    if not host or not (port == "*" or (port.isdigit() and int(port) < 65536)):
        raise ValueError(f"{bind!r} is no address: expected tcp://HOST:PORT")
    if not is_loopback(host):
        raise ValueError(
            f"{bind!r} can be reached from other machines, and this release cannot tell who calls: bind a loopback "
            "address (tcp://127.0.0.1:PORT) or ipc, and forward it, for instance by ssh -L"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host in ("localhost", "lo"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def shard_bind(public: str, shard: int, incarnation: int) -> str:
    """Where a shard listens when the supervisor's public endpoint is `public`.

    Each incarnation has an endpoint of its own, so that what was sent to a dead one is never delivered to
    the next.
    """
    if public.startswith("ipc://"):
        return f"{public}.{shard}.{os.getpid() % 10**7}.{incarnation}"
    return f"{public.rpartition(':')[0]}:*"


def forget(endpoint: str) -> None:
    """Remove the file of an ipc endpoint that nobody listens at any more."""
    if endpoint.startswith("ipc://"):
        Path(endpoint.removeprefix("ipc://")).unlink(missing_ok=True)


def _remove_stale_shards(public: Path) -> None:
    """What the shards of a supervisor that was killed have left beside its address."""
    for path in public.parent.glob(f"{glob.escape(public.name)}.*.*.*"):
        if _SHARD_SUFFIX.fullmatch(path.name[len(public.name) :]) and path.is_socket():
            try:
                _connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # full, not ours, or gone: nothing that stands in the way


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        probe.connect(path)


def _remove_stale(path: str, bind: str) -> None:
    try:
        _connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        if not Path(path).is_socket():
            raise OSError(errno.EEXIST, f"cannot listen on {bind!r}: the file is there and no socket") from None
        Path(path).unlink(missing_ok=True)
        return
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {bind!r}: {error.strerror}") from None
    hint = "another process listens there: stop it, or bind another address"
    raise OSError(errno.EADDRINUSE, f"cannot listen on {bind!r}: {hint}")
