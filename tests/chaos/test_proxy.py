"""The fault proxy does to a connection what it is told, once, and counts it."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.wire_faults import AtByte, Fault, Messages

TIMEOUT_SECONDS = 20.0
MESSAGE = bytes(range(100))


class Echo(socketserver.ThreadingTCPServer):
    """Sends back what it gets, and remembers it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        self.received = bytearray()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Echo)
        try:
            while data := self.request.recv(65536):
                self.server.received += data
                self.request.sendall(data)
        except OSError:
            pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A running echo server."""
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    """A proxy before it."""
    with FaultProxy(f"tcp://127.0.0.1:{echo.server_address[1]}", postgres=False) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A connection through it, that has been used."""
    port = int(proxy.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as client:
        client.sendall(b"hello")
        assert read(client, 5) == b"hello"
        yield client


def read(client: socket.socket, count: int) -> bytes:
    """So many bytes, or what there was when the connection broke."""
    data = bytearray()
    try:
        while len(data) < count and (piece := client.recv(count - len(data))):
            data += piece
    except ConnectionError:
        pass
    return bytes(data)


@pytest.mark.parametrize("offset", [0, 1, 99])
def test_a_cut_on_the_way_up_loses_what_follows(
    proxy: FaultProxy, client: socket.socket, echo: Echo, offset: int
) -> None:
    """The server gets the bytes before it and no more, and both connections break."""
    fault = proxy.arm(Fault("cut", AtByte("up", offset)))

    client.sendall(MESSAGE)

    read(client, 100)
    assert fault.fired.is_set()
    eventually(lambda: echo.received == b"hello" + MESSAGE[:offset], state=lambda: bytes(echo.received))
    assert proxy.standing == 0
    assert proxy.faults.struck == {"cut": 1}


@pytest.mark.parametrize("offset", [0, 1, 99])
def test_a_cut_on_the_way_down_loses_the_answer(
    proxy: FaultProxy, client: socket.socket, echo: Echo, offset: int
) -> None:
    """The server got everything; the client hears the bytes before the cut at most."""
    proxy.arm(Fault("cut", AtByte("down", offset)))

    client.sendall(MESSAGE)

    assert read(client, 100) in [MESSAGE[:count] for count in range(offset + 1)]
    assert bytes(echo.received) == b"hello" + MESSAGE
    assert proxy.faults.struck == {"cut": 1}


def test_late_bytes_arrive_after_their_sender_saw_the_connection_break(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    """The client knows nothing of them; the server gets them all the same."""
    proxy.arm(Fault("late", AtByte("up", 0), seconds=0.2))

    client.sendall(MESSAGE)

    assert read(client, 1) == b""
    eventually(lambda: echo.received == b"hello" + MESSAGE, state=lambda: bytes(echo.received))
    assert proxy.faults.struck == {"late": 1}


def test_duplicated_bytes_arrive_twice(proxy: FaultProxy, client: socket.socket, echo: Echo) -> None:
    """From the place on."""
    proxy.arm(Fault("duplicate", AtByte("up", 50)))

    client.sendall(MESSAGE)

    assert read(client, 150) == MESSAGE + MESSAGE[50:]
    assert proxy.faults.struck == {"duplicate": 1}


def test_an_answer_that_is_lost_was_one_to_a_whole_message(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    """The connection breaks at the first byte that comes back."""
    proxy.arm(Fault("answer", AtByte("up", 99)))

    client.sendall(MESSAGE)

    assert len(read(client, 100)) < 100
    assert bytes(echo.received) == b"hello" + MESSAGE


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_black_hole_swallows_one_direction_until_it_is_released(
    proxy: FaultProxy, client: socket.socket, echo: Echo, direction: str
) -> None:
    """Nothing is lost: it all comes afterwards."""
    proxy.hold(direction)  # type: ignore[arg-type]
    client.sendall(MESSAGE)
    eventually(lambda: proxy.faults.struck["held"] == 1)
    assert bytes(echo.received) == b"hello" + (MESSAGE if direction == "down" else b"")

    proxy.release()

    assert read(client, 100) == MESSAGE


def test_a_delayed_network_keeps_the_order(proxy: FaultProxy, client: socket.socket) -> None:
    """And everything arrives."""
    proxy.delay(0.01)
    for byte in range(20):
        client.sendall(bytes([byte]))

    assert read(client, 20) == bytes(range(20))
    assert proxy.faults.struck["slow"] >= 2


def test_everything_that_stands_can_be_cut_at_once(proxy: FaultProxy, client: socket.socket) -> None:
    """New connections are served."""
    assert proxy.cut() == 1

    assert read(client, 1) == b""
    port = int(proxy.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as another:
        another.sendall(b"again")
        assert read(another, 5) == b"again"


def test_a_fault_that_was_taken_back_does_not_strike(proxy: FaultProxy, client: socket.socket) -> None:
    """One that struck cannot be taken back."""
    fault = proxy.arm(Fault("cut", AtByte("up", 0)))

    assert proxy.disarm(fault) is True
    client.sendall(MESSAGE)
    assert read(client, 100) == MESSAGE
    assert not fault.fired.is_set()
    assert proxy.disarm(fault) is False


def message(kind: bytes, body: bytes) -> bytes:
    """As PostgreSQL's protocol has it."""
    return kind + (len(body) + 4).to_bytes(4, "big") + body


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_commit_is_found_however_the_stream_is_cut(size: int) -> None:
    """From the Bind of the statement that begins with the fence to the Sync; other statements are none."""
    prologue = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big") + (9).to_bytes(4, "big") + b"\0\3\0\0\0"
    prepared = message(b"P", b"one\0WITH fence AS (UPDATE ...)\0\0\0") + message(b"P", b"two\0SELECT 1\0\0\0")
    other = message(b"B", b"\0two\0rest") + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")
    commit = message(b"B", b"\0one\0rest S of it") + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")
    stream = prologue + prepared + other + commit + other + commit[:-1]
    messages = Messages()

    pieces = [piece for at in range(0, len(stream), size) for piece in messages.split(stream[at : at + size])]

    assert [piece for piece, is_commit in pieces if is_commit] == [commit]
    assert b"".join(piece for piece, _ in pieces) == stream[: -len(commit) + 1]
    assert [piece for piece, is_commit in messages.split(commit[-1:]) if is_commit] == [commit]
