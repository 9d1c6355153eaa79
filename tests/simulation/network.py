"""A wire in virtual time: connections that deliver in order, late, not at all or twice, and break.

It implements `durable_shards.network.Network`. Like TCP below ZeroMQ it keeps the order of one connection, and tells
nobody what was lost when one breaks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from durable_shards.transport import PeerGone
from durable_shards.watched_socket import QUEUED_MESSAGES_MAX, TransportStatistics
from tests.simulation.clock import ProcessLoop, Simulation

CLOSE_SECONDS = 0.001


class Wires:
    """All connections there are, and what befalls them."""

    def __init__(self, simulation: Simulation, count_fault: Callable[[str], None]) -> None:
        self.simulation = simulation
        self.listeners: dict[str, SimulatedListener] = {}
        self.pipes: dict[int, Pipe] = {}
        self.slowest_seconds = 0.002
        self.cut_off: dict[tuple[ProcessLoop, str], float] = {}
        """Until when a process reaches nobody new at an endpoint."""
        self.drop_chance = self.twice_chance = 0.0
        self.on_twice: Callable[[bytes], None] = lambda _: None
        self.count_fault = count_fault
        self._numbers = count(1)

    def new_pipe(self, client: SimulatedConnection, listener: SimulatedListener) -> Pipe:
        number = next(self._numbers)
        self.pipes[number] = pipe = Pipe(self, number, client, listener)
        return pipe

    def delay(self) -> float:
        return 0.0001 + self.simulation.random.random() * self.slowest_seconds

    def copies(self, payload: bytes, towards_server: bool) -> int:
        """How often a message arrives."""
        if not self.drop_chance and not self.twice_chance:
            return 1
        dice = self.simulation.random.random()
        if dice < self.drop_chance:
            self.count_fault("drop")
            return 0
        if dice < self.drop_chance + self.twice_chance:
            self.count_fault("twice")
            if towards_server:
                self.on_twice(payload)
            return 2
        return 1

    def process_died(self, loop: ProcessLoop) -> None:
        """What it had handed over may still arrive; then the other ends hear that it is gone."""
        for endpoint, listener in list(self.listeners.items()):
            if listener.loop is loop:
                del self.listeners[endpoint]
        loses = self.simulation.random.random() < 0.3
        for pipe in list(self.pipes.values()):
            if loop in (pipe.client.loop, pipe.listener.loop):
                if loses:
                    pipe.snap()
                else:
                    pipe.close_after_the_last()


class Pipe:
    """One connection, while it lasts."""

    def __init__(self, wires: Wires, number: int, client: SimulatedConnection, listener: SimulatedListener) -> None:
        self.wires = wires
        self.identity = number.to_bytes(5, "big")
        self.number = number
        self.client = client
        self.listener = listener
        self.snapped = False
        self._last_up = self._last_down = 0.0
        self._up = self._down = 0

    def send_up(self, payload: bytes) -> bool:
        if self._up >= QUEUED_MESSAGES_MAX:
            self.client.starved = True
            return False
        wires = self.wires
        for _ in range(wires.copies(payload, True)):
            self._last_up = when = max(self._last_up, wires.simulation.now + wires.delay())
            self._up += 1
            wires.simulation.push(when, None, lambda: self._arrive_up(payload))
        return True

    def send_down(self, payload: bytes) -> bool:
        if self._down >= QUEUED_MESSAGES_MAX:
            return False
        wires = self.wires
        for _ in range(wires.copies(payload, False)):
            self._last_down = when = max(self._last_down, wires.simulation.now + wires.delay())
            self._down += 1
            wires.simulation.push(when, None, lambda: self._arrive_down(payload))
        return True

    def _arrive_up(self, payload: bytes) -> None:
        self._up -= 1
        if not self.snapped:
            self.listener.arrived(self.identity, payload)
        if self.client.starved and self._up < QUEUED_MESSAGES_MAX:
            self.client.starved = False
            self.client.loop.call_soon(self.client.writable)

    def _arrive_down(self, payload: bytes) -> None:
        self._down -= 1
        if not self.snapped:
            self.client.arrived(self, payload)

    def snap(self) -> None:
        """Break: what is on its way is lost, and both ends hear of it a little later."""
        if not self.snapped:
            self.snapped = True
            self.wires.pipes.pop(self.number, None)
            self.wires.simulation.later(self.wires.delay(), self._noticed)

    def _noticed(self) -> None:
        self.listener.peers.pop(self.identity, None)
        self.client.loop.call_soon(self.client.broke, self)

    def close_after_the_last(self) -> None:
        simulation = self.wires.simulation
        simulation.push(max(self._last_up, self._last_down, simulation.now) + CLOSE_SECONDS, None, self.snap)


class SimulatedListener:
    """See `durable_shards.network.Listener`."""

    def __init__(
        self,
        wires: Wires,
        endpoint: str,
        on_message: Callable[[bytes, bytes], None],
        loop: ProcessLoop,
        on_drained: Callable[[], None] | None,
    ) -> None:
        self.endpoint = endpoint
        self.loop = loop
        self.peers: dict[bytes, Pipe] = {}
        self._wires = wires
        self._on_message = on_message
        self._on_drained = on_drained
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._scheduled = self._held = self._closed = False
        self.messages_received = 0
        other = wires.listeners.get(endpoint)
        if other is not None and not other.loop.dead:
            raise OSError(98, f"{endpoint} is taken")
        wires.listeners[endpoint] = self

    def arrived(self, identity: bytes, payload: bytes) -> None:
        self._inbox.append((identity, payload))
        self._drain_soon()

    def _drain_soon(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self.loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        while self._inbox and not self._held and not self._closed:
            self.messages_received += 1
            self._on_message(*self._inbox.popleft())
        if self._on_drained is not None and not self._closed:
            self._on_drained()

    def send(self, identity: bytes, payload: bytes) -> bool:
        if self.loop.dead or self._closed:
            return True
        pipe = self.peers.get(identity)
        if pipe is None:
            raise PeerGone
        return pipe.send_down(payload)

    def hold(self) -> None:
        self._held = True

    def go_on(self) -> None:
        self._held = False
        self._drain_soon()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(self.messages_received, 0, 0, 0, 0, 0, 0, 0, 0)

    def close(self, linger_seconds: float = 0) -> None:
        if self._closed:
            return
        self._closed = True
        if self._wires.listeners.get(self.endpoint) is self:
            del self._wires.listeners[self.endpoint]
        for pipe in list(self.peers.values()):
            if linger_seconds:
                pipe.close_after_the_last()
            else:
                pipe.snap()


class SimulatedConnection:
    """See `durable_shards.network.Connection`."""

    def __init__(
        self,
        wires: Wires,
        endpoint: str,
        on_message: Callable[[bytes], None],
        loop: ProcessLoop,
        callbacks: tuple[Callable[[], None], Callable[[], None], Callable[[], None]],
        reconnect_seconds: float,
    ) -> None:
        self.endpoint = endpoint
        self.loop = loop
        self.connected = False
        self.starved = False
        self._wires = wires
        self._on_message = on_message
        self._on_connected, self._on_disconnected, self._on_writable = callbacks
        self._reconnect_seconds = reconnect_seconds
        self._pipe: Pipe | None = None
        self._inbox: deque[bytes] = deque()
        self._scheduled = self._closed = False
        self._attempt(0)

    def _attempt(self, seconds: float) -> None:
        self._wires.simulation.later(seconds + self._wires.delay(), self._shake_hands)

    def _shake_hands(self) -> None:
        if self._closed or self.loop.dead:
            return
        listener = self._wires.listeners.get(self.endpoint)
        if listener is None or listener.loop.dead:
            self._attempt(self._reconnect_seconds)
        elif self._wires.cut_off.get((self.loop, self.endpoint), 0.0) > self._wires.simulation.now:
            self._wires.count_fault("cut off")
            self._attempt(self._reconnect_seconds)
        elif listener.loop.frozen or self.loop.frozen:
            self._attempt(0.1)
        else:
            self._pipe = pipe = self._wires.new_pipe(self, listener)
            listener.peers[pipe.identity] = pipe
            self.loop.call_soon(self._stands, pipe)

    def _stands(self, pipe: Pipe) -> None:
        if pipe is self._pipe and not self._closed:
            self.connected = True
            self._on_connected()

    def broke(self, pipe: Pipe) -> None:
        if pipe is not self._pipe or self._closed:
            return
        self.read_all()
        if self._closed or pipe is not self._pipe:
            return
        self._pipe = None
        was_connected, self.connected = self.connected, False
        self._attempt(self._reconnect_seconds)
        if was_connected:
            self._on_disconnected()

    def writable(self) -> None:
        if not self._closed:
            self._on_writable()

    def arrived(self, pipe: Pipe, payload: bytes) -> None:
        if pipe is self._pipe and not self._closed:
            self._inbox.append(payload)
            if not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        self.read_all()

    def read_all(self) -> None:
        while self._inbox and not self._closed:
            self._on_message(self._inbox.popleft())

    def send(self, payload: bytes) -> bool:
        if not self.connected or self._pipe is None:
            return False
        return True if self.loop.dead else self._pipe.send_up(payload)

    def close(self, linger_seconds: float = 0) -> None:
        if self._closed:
            return
        self._closed = True
        self.connected = False
        if self._pipe is not None:
            if linger_seconds:
                self._pipe.close_after_the_last()
            else:
                self._pipe.snap()


class SimulatedNetwork:
    """The network as one process sees it; implements `durable_shards.network.Network`."""

    def __init__(self, wires: Wires, loop: ProcessLoop) -> None:
        self._wires = wires
        self._loop = loop

    def listen(
        self,
        endpoint: str,
        on_message: Callable[[bytes, bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        on_drained: Callable[[], None] | None = None,
    ) -> SimulatedListener:
        return SimulatedListener(self._wires, endpoint, on_message, self._loop, on_drained)

    def dial(
        self, endpoint: str, on_message: Callable[[bytes], None], loop: asyncio.AbstractEventLoop, **options: Any
    ) -> SimulatedConnection:
        callbacks = (options["on_connected"], options["on_disconnected"], options["on_writable"])
        return SimulatedConnection(
            self._wires, endpoint, on_message, self._loop, callbacks, options.get("reconnect_seconds", 0.05)
        )

    def close(self) -> None:
        """Nothing to wait for."""
