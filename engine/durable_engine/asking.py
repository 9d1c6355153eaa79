"""Questions to a process rather than to an object: REQUEST and RESPONSE over any connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from durable_shards import wire
from durable_shards.errors import CallTimeout, error_from_wire
from durable_storage.errors import DurableError, TooLarge, Unavailable
from durable_storage.limits import REQUEST_BYTES_MAX

REPEATABLE: Final = frozenset({"alarms", "list", "ping", "reload_status", "shards", "statistics"})
"""Asked again by itself when the connection breaks before the answer."""


class _Question:
    __slots__ = ("future", "message", "op", "sent")

    def __init__(self, op: str, message: bytes, future: asyncio.Future[Any]) -> None:
        self.op = op
        self.message = message
        self.future = future
        self.sent = False


class Asker:
    """The questions under way on one connection, which may be replaced by another meanwhile."""

    def __init__(self, whom: str, send: Callable[[bytes], bool], loop: asyncio.AbstractEventLoop) -> None:
        self._whom = whom
        self._send = send
        self._loop = loop
        self._questions: dict[int, _Question] = {}
        self._unsent: dict[int, _Question] = {}
        """Those that were not handed over; `flush` is called often, and a thousand may be under way."""
        self._last_id = 0

    async def ask(self, op: str, arguments: dict[str, Any], timeout: float) -> Any:
        """The answer. Raises the error that was answered, Unavailable when nobody could be asked in time, TooLarge."""
        self._last_id += 1
        number = self._last_id
        message = wire.pack(wire.REQUEST, wire.Request(number, op, arguments))
        if len(message) > REQUEST_BYTES_MAX:
            raise TooLarge(f"the request {op!r} is {len(message)} bytes, more than the {REQUEST_BYTES_MAX} allowed")
        question = self._questions[number] = self._unsent[number] = _Question(op, message, self._loop.create_future())
        self.flush()
        try:
            async with asyncio.timeout(timeout):
                return await question.future
        except TimeoutError:
            if question.sent:
                raise CallTimeout(f"{self._whom} did not answer {op!r} within {timeout:g} s") from None
            raise Unavailable(
                f"{self._whom} could not be reached within {timeout:g} s to ask for {op!r}; call again when it is up"
            ) from None
        finally:
            del self._questions[number]
            self._unsent.pop(number, None)

    def flush(self) -> None:
        """Send what was not sent yet."""
        unsent = self._unsent
        while unsent:
            number, question = next(iter(unsent.items()))
            if not self._send(question.message):
                return
            question.sent = True
            del unsent[number]

    def on_response(self, response: wire.Response) -> bool:
        """Resolve a question. False when nobody asked (any more)."""
        question = self._questions.get(response.id)
        if question is None or question.future.done():
            return False
        if response.status == wire.OK:
            question.future.set_result(response.value)
        else:
            question.future.set_exception(error_from_wire(response.value))
        return True

    def lost(self) -> None:
        """The connection broke: ask again what may be asked twice."""
        for question in self._questions.values():
            if question.sent and question.op in REPEATABLE:
                question.sent = False
            elif question.sent and not question.future.done():
                question.future.set_exception(
                    Unavailable(
                        f"the connection to {self._whom} broke before it answered {question.op!r}", outcome="unknown"
                    )
                )
        self._unsent = {number: question for number, question in self._questions.items() if not question.sent}

    def fail_all(self, error: DurableError) -> None:
        for question in self._questions.values():
            if not question.future.done():
                question.future.set_exception(error)
