"""Wrong declarations of schema versions, each with a part of its message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable_shards.handler import handler
from durable_shards.object import DurableObject


def version_as_a_field() -> None:
    class Wrong(DurableObject):
        schema_version: int = 2


def migrate_as_a_field() -> None:
    class Wrong(DurableObject):
        migrate: bool = False


def migrate_as_a_handler() -> None:
    class Wrong(DurableObject, schema_version=2):
        @handler
        def migrate(self) -> None: ...


def migrate_as_a_method() -> None:
    class Wrong(DurableObject, schema_version=2):
        def migrate(self, version: int, data: dict[str, Any]) -> dict[str, Any]:
            return data


def migrate_as_a_static_method() -> None:
    class Wrong(DurableObject, schema_version=2):
        @staticmethod
        def migrate(version: int, data: dict[str, Any]) -> dict[str, Any]:
            return data


def migrate_that_waits() -> None:
    class Wrong(DurableObject, schema_version=2):
        @classmethod
        async def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            return data


def migrate_without_version() -> None:
    class Wrong(DurableObject, schema_version=2):
        @classmethod
        def migrate(cls, data: dict[str, Any]) -> dict[str, Any]:
            return data


def migrate_that_wants_more() -> None:
    class Wrong(DurableObject, schema_version=2):
        @classmethod
        def migrate(cls, version: int, data: dict[str, Any], sku: str) -> dict[str, Any]:
            return data


def migrate_without_a_version() -> None:
    class Wrong(DurableObject):
        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            return data


def version_zero() -> None:
    class Wrong(DurableObject, schema_version=0): ...


def version_as_text() -> None:
    class Wrong(DurableObject):
        schema_version = "2"


def version_as_a_flag() -> None:
    class Wrong(DurableObject, schema_version=True): ...


def version_beyond_64_bits() -> None:
    class Wrong(DurableObject, schema_version=1 << 64): ...


def two_versions() -> None:
    class Wrong(DurableObject, schema_version=2):
        schema_version = 3


FORM = "write @classmethod def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]"

WRONG: list[tuple[Callable[[], None], str]] = [
    (version_as_a_field, "Wrong.schema_version: the version belongs to the class, not to its state; write schema_vers"),
    (
        migrate_as_a_field,
        f"Wrong.migrate: this name is for the method that brings older rows up to date; for that, {FORM}",
    ),
    (migrate_as_a_handler, f"{FORM}; or give the handler another name"),
    (migrate_as_a_method, f"Wrong.migrate: it runs before there is an object, and cannot wait; {FORM}"),
    (migrate_as_a_static_method, f"Wrong.migrate: it runs before there is an object, and cannot wait; {FORM}"),
    (migrate_that_waits, f"Wrong.migrate: it runs before there is an object, and cannot wait; {FORM}"),
    (
        migrate_without_version,
        "Wrong.migrate cannot be called with a version and the data: too many positional arguments; write",
    ),
    (
        migrate_that_wants_more,
        "Wrong.migrate cannot be called with a version and the data: missing a required argument: 'sku'",
    ),
    (
        migrate_without_a_version,
        "Wrong.migrate is never called for a class whose schema_version is 1; write class Wrong(DurableObject, schema_",
    ),
    (version_zero, "Wrong: option schema_version is a whole number, 1 or more, not 0; count it up by one"),
    (version_as_text, "Wrong: option schema_version is a whole number, 1 or more, not '2'"),
    (version_as_a_flag, "Wrong: option schema_version is a whole number, 1 or more, not True"),
    (version_beyond_64_bits, "Wrong: option schema_version is a whole number, 1 or more, not 18446744073709551616"),
    (two_versions, "Wrong: schema_version is 2 as a keyword and 3 as an attribute; write one of them"),
]
