"""What travels between processes and is lost there: callers that leave, replies that never come, ids of every kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_engine.client import Client
from durable_engine.errors import InvalidArguments, TooLarge
from durable_shards import wire
from durable_storage.address import id_problem
from tests.crash.conftest import MakeServer
from tests.support.eventually import eventually
from tests.support.server import ROOT, Server
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.processes

INCREMENT = """
import sys
from durable_engine.client import Client
from durable_engine.errors import InvalidArguments, TooLarge
with Client(sys.argv[1]) as client:
    print(client.call_by_name("Counter", "a", "increment", [5], {}, idempotency_key="k"))
"""
"""Another program, with a client of its own."""


def increment_elsewhere(server: Server) -> int:
    """The same call with the same key, made by another process."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("engine", "shards", "storage"))
    command = [sys.executable, "-c", INCREMENT, server.endpoint]
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def test_a_key_finds_its_result_whatever_happened_since(make_server: MakeServer, store: str) -> None:
    """fault E8: in another process, after the shard was killed or drained, and after the whole server was killed."""
    server = make_server(store, shards=1).start()
    with server.client() as client:
        assert client.call_by_name("Counter", "a", "increment", [5], {}, idempotency_key="k") == 5
        assert client.call_by_name("Counter", "a", "increment", [1], {}) == 6
        assert increment_elsewhere(server) == 5

        os.kill(server.shard()["pid"], signal.SIGKILL)
        server.wait_until_up(restarts=1)
        assert client.call_by_name("Counter", "a", "increment", [5], {}, idempotency_key="k") == 5

        killed = server.shard()["pid"]
        client.request("restart_shard", {"shard": 0})
        eventually(lambda: server.shard()["pid"] not in (0, killed), state=lambda: server.log)
        server.wait_until_up()
        assert client.call_by_name("Counter", "a", "increment", [5], {}, idempotency_key="k") == 5

    server.signal(signal.SIGKILL)
    server.wait()
    server.start()
    with server.client() as client:
        assert client.call_by_name("Counter", "a", "increment", [5], {}, idempotency_key="k") == 5
        assert client.call_by_name("Counter", "a", "get", [], {}) == 6


def test_a_call_goes_on_without_its_caller(make_server: MakeServer) -> None:
    """fault E6: it leaves while its call runs; the result is there under the key for whoever asks, and counts once."""
    server = make_server(shards=1).start()
    slow = wire.encode_value([1, "Counter", "a", "increment_slowly", [0.5], 60_000, None, "", "k"])
    quick = wire.encode_value([2, "Counter", "b", "$where"])
    with WireClient(server.shard()["endpoint"]) as leaver:
        leaver.send(wire.pack_calls([slow, quick]))
        (answer,) = wire.unpack(leaver.receive()).replies
        assert (answer.id, answer.value) == (2, False), "the call before it has begun, and has not ended"
    with server.client() as client:
        called: dict[str, Any] = {"idempotency_key": "k", "timeout": 60}
        assert client.call_by_name("Counter", "a", "increment_slowly", [0.5], {}, **called) == 1
        assert client.call_by_name("Counter", "a", "get", [], {}) == 1


def texts() -> st.SearchStrategy[str]:
    """What may be an id, and what may not: any characters, lone surrogates, NUL, and lengths around the limit."""
    any_text = st.text(st.characters(codec=None), max_size=20)
    long = st.builds(lambda size, end: "p" * size + end, st.integers(500, 512), any_text)
    odd = st.sampled_from(["", "\0", "a\0b", "\ud800", "é", "e\u0301", "\u212b", "/", "%2F", "..", "\n", "🎈" * 128])
    return any_text | long | odd


def test_an_id_is_refused_everywhere_or_comes_back_as_it_was(make_server: MakeServer, store: str) -> None:
    """fault E1: client and shard know one rule; what passes is one object, stored and listed under just that text."""
    server = make_server(store, shards=1).start()
    counts: dict[str, int] = {}
    refused: set[str] = set()
    with server.client() as client, WireClient(server.shard()["endpoint"]) as raw:

        @settings(max_examples=15, deadline=None, database=None)
        @given(st.lists(texts(), min_size=1, max_size=12))
        def check(ids: list[str]) -> None:
            for each in ids:
                if id_problem(each) is None:
                    counts[each] = counts.get(each, 0) + 1
                    assert client.call_by_name("Counter", each, "increment", [], {}) == counts[each]
                else:
                    refused.add(each)
                    assert_refused(client, raw, each)

        check()
        raw.send(wire.pack(wire.REQUEST, wire.Request(1, "list", {"object_type": "Counter", "limit": 10_000})))
        assert set(wire.unpack(raw.receive()).value) == counts.keys()
        server.signal(signal.SIGKILL)
        server.wait()
        server.start()
    with server.client() as client:
        assert {each: client.call_by_name("Counter", each, "get", [], {}) for each in counts} == counts
    assert min(len(counts), len(refused)) > 3


def assert_refused(client: Client, raw: WireClient, object_id: str) -> None:
    """By the client's own check, and by the shard when a frame comes past it."""
    with pytest.raises((InvalidArguments, TooLarge), match="object id") as refused:
        client.call_by_name("Counter", object_id, "increment", [], {})
    assert refused.value.outcome == "not_applied"
    sent = object_id.encode(errors="surrogatepass")
    placeholder = b"p" * len(sent)
    call = wire.encode_value([1, "Counter", placeholder.decode(), "increment", []])
    raw.send(wire.pack_calls([call.replace(placeholder, sent, 1)]))
    answer = wire.unpack(raw.receive())
    if isinstance(answer, wire.Replies):  # else an ERROR: no UTF-8 at all
        assert answer.replies[0].value["type"] in ("InvalidArguments", "TooLarge")
