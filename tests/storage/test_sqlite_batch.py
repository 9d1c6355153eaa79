"""A batch of states and results is one statement, and leaves what row by row would have left."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_storage import sqlite_schema
from durable_storage.address import Address
from durable_storage.batching import Refused
from durable_storage.errors import Fenced
from durable_storage.ownership import Ownership
from durable_storage.sqlite_batch import PACKED_BYTES_MAX, Packed, packed
from durable_storage.sqlite_file import ShardFile
from durable_storage.store import AlarmRow, Change, Claim, KeyExists, ResultRow

CLAIM = Claim("shard-0", "node", 1, "", 0, 1)
OWNED = Ownership(uuid4(), 1, 0)
SOME_TIME = datetime(2026, 1, 1, tzinfo=UTC)
LATER = 2_000_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
states = st.dictionaries(texts, values, max_size=3).map(orjson.dumps)
results = st.builds(
    ResultRow,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=12),
    st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)


def claimed_file(directory: str | Path, name: str) -> ShardFile:
    """A new file that OWNED owns."""
    path = Path(directory) / f"{name}.sqlite3"
    connection = apsw.Connection(str(path))
    sqlite_schema.migrate(connection)
    connection.close()
    file = ShardFile(path)
    file.claim(CLAIM, OWNED, None, 1)
    return file


def resting(file: ShardFile) -> list[Any]:
    """All that another connection finds in the file: the owner's row, every state and every result."""
    reader = apsw.Connection(str(file.path))
    try:
        found = list(reader.execute("SELECT * FROM durable_hosts"))
        found += reader.execute("SELECT *, typeof(state) FROM durable_objects ORDER BY object_type, object_id")
        return found + list(reader.execute("SELECT *, typeof(result) FROM durable_results ORDER BY key, object_id"))
    finally:
        reader.close()


def change(object_id: str = "a", state: bytes | None = b"{}", version: int = 1, **more: Any) -> Change:
    return Change(Address("", "Type", object_id), 7, state, version, **more)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(ids, st.tuples(states, states), min_size=1, max_size=5))
def test_packed_states_are_stored_as_those_that_are_bound_one_by_one(objects: dict[str, tuple[bytes, bytes]]) -> None:
    """Whatever ids and states hold, both ways leave the same rows."""
    with tempfile.TemporaryDirectory() as directory:
        one, other = claimed_file(directory, "packed"), claimed_file(directory, "bound")
        owned = OWNED
        for version in (1, 2):  # inserted, then replaced
            changes = [change(name, pair[version - 1], version) for name, pair in objects.items()]
            text = packed(changes)
            assert text is not None
            one.apply_packed(text, CLAIM, owned, LATER * version)
            other.apply(changes, CLAIM, owned, None, LATER * version)
            owned = owned._replace(seq=owned.seq + 1)
        found = resting(one)
        assert found == resting(other)
        assert {row[1]: row[4].encode() for row in found[1:]} == {name: pair[1] for name, pair in objects.items()}
        one.close()
        other.close()


@pytest.mark.parametrize(
    "more",
    [
        {"state": None},
        {"state": b"\xff"},
        {"state": b'"' + b"x" * PACKED_BYTES_MAX + b'"'},
        {"delete": True},
        {"alarms_set": [AlarmRow("ring", SOME_TIME)]},
        {"alarms_cleared": ["ring"]},
        {"results": [ResultRow("key", 0, b"x" * PACKED_BYTES_MAX, SOME_TIME)]},
        {"results": [ResultRow("key", 1 << 64, b"", SOME_TIME)]},
        {"results": [ResultRow("\ud800", 0, b"", SOME_TIME)]},
    ],
)
def test_a_batch_with_more_than_small_rows_is_bound_row_by_row(more: dict[str, Any]) -> None:
    """Whatever ids and states hold, both ways leave the same rows."""
    assert packed([change("a"), change("b", **more)]) is None


def test_a_replaced_owner_writes_nothing(tmp_path: Path) -> None:
    """Alarms, deletions, much text, and what JSON cannot hold go the other way."""
    file = claimed_file(tmp_path, "shard")
    text = packed([change("a")])
    assert text is not None
    file.apply_packed(text, CLAIM, OWNED, LATER)
    before = resting(file)
    with pytest.raises(Fenced):
        file.apply_packed(text, CLAIM, OWNED._replace(incarnation=uuid4()), LATER)
    file.seq = OWNED.seq  # as an owner that slept through a commit knows it
    with pytest.raises(Fenced):
        file.apply_packed(text, CLAIM, OWNED, LATER)
    assert resting(file) == before


def test_a_row_that_the_file_refuses_leaves_no_trace_of_its_batch(tmp_path: Path) -> None:
    """Neither its neighbours nor the fence were touched."""
    """The fence is checked within the statement."""
    file = claimed_file(tmp_path, "shard")
    before = resting(file)
    with pytest.raises(Refused):
        file.apply_packed(Packed('[["Type","a",7,1,"{}"],["Type","b","no number",1,"{}"]]', "[]"), CLAIM, OWNED, LATER)
    assert resting(file) == before
    assert file.seq == OWNED.seq


@settings(deadline=None, max_examples=40)
@given(st.lists(results, min_size=1, max_size=4, unique_by=lambda row: row.key))
def test_packed_results_are_stored_as_those_that_are_bound_one_by_one(rows: list[ResultRow]) -> None:
    """Whatever keys and results hold, both ways leave the same rows."""
    with tempfile.TemporaryDirectory() as directory:
        one, other = claimed_file(directory, "packed"), claimed_file(directory, "bound")
        changes = [change("a", results=rows[:2]), change("b", results=rows[2:])]
        batch = packed(changes)
        assert batch is not None
        one.apply_packed(batch, CLAIM, OWNED, LATER)
        other.apply(changes, CLAIM, OWNED, None, LATER)
        assert resting(one) == resting(other)
        one.close()
        other.close()


def test_a_key_that_has_a_result_undoes_the_batch_until_it_expires(tmp_path: Path) -> None:
    """The second result of a key is refused with everything beside it; an expired one is replaced."""
    file = claimed_file(tmp_path, "shard")
    expiry = datetime.fromtimestamp(10, UTC)
    first = packed([change("a", results=[ResultRow("key", 1, b"first", expiry)])])
    again = packed([change("a", b"[]", 2, results=[ResultRow("key", 1, b"second", expiry)]), change("b")])
    assert first is not None
    assert again is not None
    file.apply_packed(first, CLAIM, OWNED, 9_000_000)
    before = resting(file)
    owned = OWNED._replace(seq=OWNED.seq + 1)
    with pytest.raises(Refused) as refused:
        file.apply_packed(again, CLAIM, owned, 9_999_999)
    assert isinstance(refused.value.error, KeyExists)
    assert resting(file) == before
    file.apply_packed(again, CLAIM, owned, 10_000_000)
    assert b"second" in resting(file)[-1]
