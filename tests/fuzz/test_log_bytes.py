"""SQLite's write-ahead log with bytes that nobody wrote: the beginning of what was acknowledged, or an error."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_storage.errors import DataLossDetected, DurableError
from tests.contract.rigs import SqliteRig, address, change
from tests.contract.test_sqlite_faults import log_of, shard_file
from tests.fuzz.budget import budget

COMMITS = 30
FRAME_BYTES = 24 + 4096
"""One page in the log, with its header."""

Damage = Callable[[bytes], bytes]


def _flip(place: float, bit: int) -> Damage:
    def flip(log: bytes) -> bytes:
        at = int(place * (len(log) - 1))
        return log[:at] + bytes((log[at] ^ (1 << bit),)) + log[at + 1 :]

    return flip


def _overwrite(place: float, junk: bytes) -> Damage:
    def overwrite(log: bytes) -> bytes:
        at = int(place * len(log))
        return (log[:at] + junk + log[at + len(junk) :])[: len(log)]

    return overwrite


def _cut(place: float) -> Damage:
    return lambda log: log[: int(place * len(log))]


def _swap(first: int, second: int) -> Damage:
    def swap(log: bytes) -> bytes:
        head, frames = log[:32], [log[at : at + FRAME_BYTES] for at in range(32, len(log), FRAME_BYTES)]
        if not frames:
            return log
        one, other = first % len(frames), second % len(frames)
        frames[one], frames[other] = frames[other], frames[one]
        return head + b"".join(frames)

    return swap


places = st.floats(0, 1)
headers = st.floats(0, 32 / (COMMITS * FRAME_BYTES))
"""Of the file's header, which has few of the bytes and much of the meaning."""
damages = (
    st.builds(_flip, places | headers, st.integers(0, 7))
    | st.builds(_overwrite, places | headers, st.binary(min_size=1, max_size=64) | st.just(bytes(FRAME_BYTES)))
    | st.builds(_cut, places)
    | st.builds(_swap, st.integers(0, 1_000), st.integers(0, 1_000))
)


async def made(directory: Path) -> Path:
    """A store as the crash of its machine leaves it, after COMMITS commits."""
    rig = SqliteRig(directory / "living")
    await rig.control()
    store = await rig.open()
    for number in range(1, COMMITS + 1):
        await store.commit([change(each, b"%d" % number, number) for each in "ab"])
    shutil.copytree(rig.directory, directory / "crashed")
    await rig.close()
    return directory / "crashed"


async def found(directory: Path, *, acknowledged: int | None) -> int:
    """How many commits a new owner finds; both objects agree with it, or it would be half a batch."""
    rig = SqliteRig(directory)
    try:
        store = await rig.open(acknowledged_seq=acknowledged)
        stored = [each and each[:2] for each in await store.load([address("a"), address("b")])]
        assert stored == [(b"%d" % store.seq, store.seq) if store.seq else None] * 2
        await store.commit([change("a", b"next", store.seq + 1)])
        return int(store.seq) - 1
    finally:
        await rig.close()


def test_a_damaged_log_is_the_exact_beginning_or_a_typed_error(tmp_path: Path) -> None:
    """With the last acknowledged commit remembered elsewhere, less than all of it is DataLossDetected."""
    crashed = asyncio.run(made(tmp_path))
    content = log_of(shard_file(crashed)).read_bytes()
    seen = {"whole": 0, "beginning": 0, "refused": 0}

    @budget(60)
    @given(st.lists(damages, min_size=1, max_size=3))
    @example([_cut(0.5)])
    def fuzz(several: list[Damage]) -> None:
        log = content
        for damage in several:
            log = damage(log) or b"\0"
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            for acknowledged in (None, COMMITS):
                copy = Path(name) / str(acknowledged)
                shutil.copytree(crashed, copy)
                log_of(shard_file(copy)).write_bytes(log)
                try:
                    count = asyncio.run(found(copy, acknowledged=acknowledged))
                except DataLossDetected:
                    assert acknowledged == COMMITS
                    seen["refused"] += 1
                except DurableError:
                    seen["refused"] += 1
                else:
                    assert count == COMMITS or (acknowledged is None and 0 <= count < COMMITS)
                    seen["whole" if count == COMMITS else "beginning"] += 1

    fuzz()
    assert min(seen["beginning"], seen["refused"]) > 0, seen


@pytest.mark.parametrize("acknowledged", [None, COMMITS])
def test_an_undamaged_log_is_all_there(tmp_path: Path, acknowledged: int | None) -> None:
    """What the fuzzer begins with."""
    assert asyncio.run(found(asyncio.run(made(tmp_path)), acknowledged=acknowledged)) == COMMITS
