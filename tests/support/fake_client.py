"""A client that only remembers what it was asked, in the place of the one that commands open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import CliRunner, Result

from durable_engine.cli import cli
from durable_engine.commands import connection

Run = Callable[..., Result]


def run_cli(*words: str, **options: Any) -> Result:
    """Run a command line to its end; no terminal is there."""
    return CliRunner().invoke(cli, words, **options)


@dataclass
class FakeClient:
    """Answers from a table, and keeps what it was asked."""

    replies: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    address: str = ""
    timeout: float = 0.0
    closed: bool = False

    def take_the_place_of_all(self, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
        """Every command gets this client."""

        def open_client(address: str, timeout_seconds: float) -> FakeClient:
            self.address, self.timeout = address, timeout_seconds
            return self

        monkeypatch.setattr(connection, "open_client", open_client)
        return self

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def call_by_name(
        self, object_type: str, object_id: str, handler: str, args: Any = (), kwargs: Any = None, **options: Any
    ) -> Any:
        self.asked.append((object_type, object_id, handler, args, kwargs, options))
        return self.answer(handler)

    def objects(self, object_type: str, **options: Any) -> Any:
        self.asked.append((object_type, options))
        return self.answer("objects")

    def alarms(self, object_type: str, object_id: str, *, prefix: str) -> FakeAlarms:
        return FakeAlarms(self, (object_type, object_id, prefix))

    def all_alarms(self, **options: Any) -> Any:
        self.asked.append(("all_alarms", options))
        pages = self.answer("all_alarms")
        return pages.pop(0) if pages else []

    def where(self, object_type: str, object_id: str, *, prefix: str) -> Any:
        return self.answer("where")

    def request(self, op: str, arguments: dict[str, Any] | None = None, *, timeout: float) -> Any:
        if arguments is not None:
            self.asked.append((op, arguments))
        return self.answer(op)

    def statistics(self) -> Any:
        return self.answer("statistics")

    def __getattr__(self, name: str) -> Any:
        """`wake`, `evict`, `delete` and `unpark`."""

        def act(object_type: str, object_id: str, *, prefix: str) -> Any:
            self.asked.append((name, object_type, object_id, prefix))
            return self.answer(name)

        return act

    def answer(self, name: str) -> Any:
        """What the table says."""
        reply = self.replies.get(name)
        if isinstance(reply, BaseException):
            raise reply
        return reply


@dataclass
class FakeAlarms:
    """The alarms of one object: `schedule`, `cancel`, `cancel_all`, `fire` and `retry` are kept, by name."""

    client: FakeClient
    whose: tuple[str, str, str]

    def pending(self) -> Any:
        return self.client.answer("pending") or []

    def __getattr__(self, name: str) -> Any:
        def act(*args: Any, **options: Any) -> Any:
            self.client.asked.append((name, *self.whose, *args, options) if options else (name, *self.whose, *args))
            return self.client.answer(name)

        return act
