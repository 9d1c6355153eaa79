"""Messages that are almost right: every kind of frame with wrong types, broken bytes, bombs, and parts that do not
belong."""

from __future__ import annotations

import msgpack
from hypothesis import strategies as st

from durable_shards import system, wire

IDS = ("a", "b", "c")
"""Few, so that what they leave behind is bounded."""
HANDLERS = ("increment", "get", "reject", "crash", "unsendable", "_private", "__init__", *sorted(system.HANDLERS))
BOMBS = (
    b"\xdd\xff\xff\xff\xff",  # an array of four thousand million elements
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x00",
    b"\x91" * 3_000,
    b"\x81\x01" * 3_000,
    b"\xc1",
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xc7\x0c\xff" + b"\xff" * 12,  # a time that is none
)
_integers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63])
leaves = st.none() | st.booleans() | _integers | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
_hashable = st.none() | st.booleans() | _integers | st.text(max_size=4) | st.binary(max_size=4)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_hashable, inner, max_size=4), max_leaves=8
)
_calls = st.tuples(
    _integers,
    st.sampled_from(["Counter", "Nothing", ""]) | leaves,
    st.sampled_from(IDS) | leaves,
    st.sampled_from(HANDLERS) | leaves,
    st.lists(values, max_size=3) | leaves,
    st.sampled_from([5_000, 0, -1, 2**63]) | leaves,
    st.none() | st.dictionaries(st.text(max_size=4), values, max_size=2) | leaves,
    st.just("") | leaves,
    st.none() | st.sampled_from(["k", "l"]) | leaves,
    st.integers(0, 7) | leaves,
    st.none() | st.lists(st.sampled_from(["Counter/a", "x"]), max_size=2) | leaves,
    st.none() | leaves,
    values,
)
calls = st.builds(lambda call, length: list(call[:length]), _calls, st.integers(0, 13))
_counts = st.dictionaries(_integers, st.tuples(_integers, _integers) | values, max_size=3)
_routes = st.fixed_dictionaries(
    {
        "shard": st.integers(-1, 3) | leaves,
        "endpoint": st.sampled_from(["", "nonsense", "ipc:///nowhere/at/all", "tcp://127.0.0.1:1"]) | leaves,
        "epoch": _integers,
        "partitions": st.tuples(_integers, _integers) | st.just((0, 1024)) | values,
        "state": st.sampled_from(["up", "draining", "down", "?"]) | leaves,
        "pid": _integers,
    }
)
_tables = st.fixed_dictionaries(
    {
        "server": st.sampled_from(["first", "another", ""]) | leaves,
        "version": _integers,
        "partitions": st.just(1024) | leaves,
        "shards": st.lists(_routes | values, max_size=3) | values,
    }
)
_replies = st.tuples(_integers, st.integers(0, 2) | leaves, _integers, values)
_errors = st.fixed_dictionaries({"type": st.sampled_from(["NotOwner", "Rejected", "TooLarge", "?"]) | leaves})
bodies = {
    wire.HELLO: st.fixed_dictionaries({"server": leaves, "known": leaves, "acknowledged": _counts}) | values,
    wire.WELCOME: _tables | values,
    wire.CALLS: st.lists(calls | values, max_size=4) | values,
    wire.REPLIES: st.tuples(_integers, _integers, st.lists(_replies | values, max_size=3)) | values,
    wire.REQUEST: st.tuples(_integers, st.sampled_from(["ping", "statistics", "list", "alarms", "?"]) | leaves, values)
    | values,
    wire.RESPONSE: st.tuples(_integers, st.integers(0, 2) | leaves, _errors | values) | values,
    wire.ERROR: leaves,
}


def _packed(kind: int) -> st.SearchStrategy[bytes]:
    body = bodies.get(kind, values)
    return st.builds(lambda it: bytes((wire.VERSION, kind)) + msgpack.packb(it, default=str), body)


whole = st.sampled_from([*bodies, 0, 8, 255]).flatmap(_packed)
"""Well packed, whatever it says."""


def _damage(message: bytes, at: int, length: int, junk: bytes) -> bytes:
    at %= len(message) + 1
    return message[:at] + junk + message[at + length :]


damaged = st.builds(_damage, whole, st.integers(0, 400), st.integers(0, 4), st.binary(max_size=3))
truncated = st.builds(lambda message, share: message[: int(len(message) * share)], whole, st.floats(0, 1))
bombs = st.builds(
    lambda kind, before, bomb: bytes((wire.VERSION, kind)) + before + bomb,
    st.sampled_from([*bodies]),
    st.sampled_from([b"", b"\x91", b"\x93\x01\x01", b"\x91\x95\x01\xa7Counter\xa1a\xa9increment", b"\x81\xa6server"]),
    st.sampled_from(BOMBS),
)
messages = whole | damaged | truncated | bombs | st.binary(max_size=40)
"""One part of what arrives."""
parts = st.lists(messages, min_size=1, max_size=3)
"""A message of ZeroMQ: this protocol's have one part."""
attacks = st.lists(parts, min_size=1, max_size=6)
"""What one stranger sends."""
