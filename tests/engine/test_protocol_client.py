"""The protocol page is complete: the client printed on it, with pyzmq and msgpack alone, works on a real server."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest

from durable_engine import Engine
from durable_shards import wire
from durable_storage import limits
from durable_storage.address import partition_of
from tests.engine.shop import Cart, Counter

PAGE = (Path(__file__).parent.parent.parent / "docs" / "protocol.md").read_text()


def tiny_client() -> Any:
    """The module printed at the end of the page."""
    (source,) = re.findall(r'```python title="tiny_client.py"\n(.*?)```', PAGE, re.DOTALL)
    imported = {
        alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported == {"time", "zlib", "msgpack", "zmq"}
    module: dict[str, Any] = {}
    exec(compile(source, "tiny_client.py", "exec"), module)
    return module


@pytest.fixture(scope="module")
def tiny() -> Any:
    return tiny_client()


@pytest.mark.processes
async def test_the_client_on_the_page_calls_a_running_server(tiny: Any) -> None:
    """Results, state, keys, tenants, errors, system handlers, over two shards."""
    async with Engine("memory://", objects=[Counter, Cart], shards=2) as engine:
        client = tiny["TinyClient"](engine.url)
        for n in range(20):
            assert client.call("shop.Counter", f"user-{n}", "increment", n + 1) == n + 1
        assert await engine.objects(Counter) == sorted(f"user-{n}" for n in range(20))
        assert client.call("shop.Counter", "é", "increment", prefix="red") == 1
        assert await engine.at(Counter, "é", prefix="red").get() == 1
        assert [client.call("shop.Counter", "k", "increment", 5, key="once") for _ in range(3)] == [5, 5, 5]
        added = client.call("Cart", "c", "add", "tea", "2.50")
        assert added == {"sku": "tea", "price": "2.50", "since": None}
        assert client.call("Cart", "c", "$state")["state"]["total"] == "2.50"
        assert client.call("Cart", "c", "$where") is True

        assert client.call("Cart", "c", "$schedule", "expire", {"at": "2131-05-01T09:00:00Z"}, {"a": 1}) is None
        assert client.call("Cart", "c", "$pending") == [["expire", "2131-05-01T09:00:00+00:00", 0, {"a": 1}]]
        rule = {"every": 3600, "after": 1e6, "missed": "all"}
        assert client.call("Cart", "c", "$schedule", "expire", rule, None) is None
        (alarm,) = client.call("Cart", "c", "$alarms")
        assert alarm.keys() == {"name", "at", "attempt", "payload", "recurrence", "problem", "parked"}
        assert alarm["recurrence"] == "every 1:00:00, missed all"
        assert client.call("Cart", "c", "$fire", "expire", "2131-05-01T09:00:00Z") is False
        assert client.call("Cart", "c", "$fire", "expire", alarm["at"]) is True
        assert client.call("Cart", "c", "sum") == "2.50"
        assert client.call("Cart", "c", "$retry", None) == 0
        assert client.call("Cart", "c", "$cancel", "expire") is True
        yearly = {"cron": "0 9 1 1 *", "tz": "Europe/Berlin"}
        assert client.call("Cart", "c", "$schedule", "expire", yearly, None) is None
        assert client.call("Cart", "c", "$cancel_all") == 1

        with pytest.raises(tiny["CallFailed"]) as rejected:
            client.call("Cart", "c", "take", "tea")
        assert rejected.value.args[0]["type"] == "Rejected"
        assert rejected.value.args[0]["class"] == "tests.engine.shop:OutOfStock"
        assert rejected.value.args[0]["fields"] == {"sku": "tea", "left": 0}
        with pytest.raises(tiny["CallFailed"]) as unknown:
            client.call("Nothing", "c", "get")
        assert unknown.value.args[0]["type"] == "UnknownClass"
        assert unknown.value.args[0]["outcome"] == "not_applied"
        # Both have the same deadline: the shard's answer, that it undid the call, may come just before it.
        with pytest.raises((TimeoutError, tiny["CallFailed"]), match=r"timeout|no answer"):
            client.call("shop.Counter", "slow", "slow", 60, timeout=0.2)
        client.close()


def test_the_partitions_on_the_page_are_right() -> None:
    """Each line of the table of examples."""
    rows = re.findall(r"^\| (?:`(\w*)`)? ?\| `([\w.]+)` \| `([^`]+)` \| .* \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for prefix, name, object_id, crc, partition in rows:
        assert int(crc) % 1024 == int(partition) == partition_of(prefix, name, object_id)


def test_the_messages_on_the_page_are_right() -> None:
    """The bytes are what this library makes and reads."""
    call, reply = (bytes.fromhex(text) for text in re.findall(r"```\n((?:[0-9a-f]{2}[ \n])+)```", PAGE))
    (decoded,), broken = wire.unpack_calls(call)
    assert (decoded.id, decoded.object_type, decoded.object_id, decoded.handler, decoded.args, broken) == (
        1,
        "Counter",
        "user-123",
        "increment",
        [5],
        [],
    )
    assert wire.pack_replies(3, 17, [msgpack.packb([1, 0, 9, 5])]) == reply
    body = wire.unpack(reply)
    assert (body.epoch, body.seq, body.replies[0].id, body.replies[0].value) == (3, 17, 1, 5)


def test_the_fields_on_the_page_are_those_of_the_frames() -> None:
    """Every element of a call by its position, every kind by its number."""
    section = PAGE.partition("## CALLS")[2].partition("## REPLIES")[0]
    positions = [int(number) for number in re.findall(r"^\| (\d+) \| [a-z ]+ \| ", section, re.MULTILINE)]
    assert positions[:12] == list(range(12))
    for kind in ("HELLO", "WELCOME", "CALLS", "REPLIES", "REQUEST", "RESPONSE", "ERROR"):
        assert f"| {getattr(wire, kind)} | {kind} |" in PAGE
    for flag in ("FRESH", "AUTO_KEY", "ONE_WAY"):
        assert f"| {getattr(wire, 'FLAG_' + flag)} | {flag} |" in PAGE


def test_the_limits_on_the_page_are_those_of_the_engine() -> None:
    """Numbers that are written twice must not part."""
    section = PAGE.partition("## Limits")[2]
    assert f"1 to {limits.ID_BYTES_MAX} bytes" in section
    assert f"1 to {limits.NAME_BYTES_MAX} bytes" in section
    assert f"1 to {limits.KEY_BYTES_MAX} bytes" in section
    assert f"| one HELLO or REQUEST | {limits.REQUEST_BYTES_MAX >> 20} MiB |" in section
    for value in (limits.ARGUMENTS_BYTES_MAX, limits.RESULT_BYTES_MAX, limits.MESSAGE_BYTES_MAX):
        assert f"{value >> 20} MiB" in section


def test_every_system_handler_and_request_is_on_the_page() -> None:
    """Whoever adds one writes it down."""
    from durable_shards import system

    for name in system.HANDLERS:
        assert f"| `{name}` |" in PAGE
