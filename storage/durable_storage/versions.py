"""The codec of a class whose `schema_version` is more than 1: its text begins with that version.

    {"$schema":2,"items":{"lamp":3}}

The version is an attribute of the instance like the fields, so that orjson writes it with them: that costs 15 ns,
and classes without a version of their own pay nothing. It stands in the text and not in a column of its own so that
a state says by itself what it is, wherever it is copied to: exports, other languages, older releases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson

from durable_storage.codec import SCHEMA, Default, StateCodec, hook
from durable_storage.errors import StateUnreadable
from durable_storage.unknown import raw_fields
from durable_storage.values import LEAVES

Migrate = Callable[[int, dict[str, Any]], Any]
"""Of the version that wrote the data, and the data as plain JSON: the data of the current version."""


class VersionedCodec(StateCodec):
    """Encodes, verifies and decodes the state of a class that has had other versions."""

    def __init__(
        self,
        owner: str,
        fields: Mapping[str, Any],
        defaults: Mapping[str, Default | None],
        version: int,
        migrate: Migrate | None,
    ) -> None:
        """As StateCodec. Without `migrate`, older data is read as if it were of the current version."""
        super().__init__(owner, fields, defaults)
        self.version = version
        self._migrate = migrate
        self._head = orjson.dumps({SCHEMA: version})[:-1]
        # msgspec takes a text without the tag as well; `_head` is what tells the two apart.
        tagged = self._struct(forbid_unknown_fields=True, tag_field=SCHEMA, tag=version)
        self._strict = msgspec.json.Decoder(tagged)
        self._rows.append((SCHEMA, *LEAVES[int].row))
        self._allowed |= {SCHEMA}

    def initial(self) -> dict[str, Any]:
        """As StateCodec, with the version in front."""
        return {SCHEMA: self.version, **super().initial()}

    def decode(self, data: bytes) -> dict[str, Any]:
        """As StateCodec; data of an older version goes through `migrate` first."""
        if data.startswith(self._head):
            try:
                return {SCHEMA: self.version, **msgspec.structs.asdict(self._strict.decode(data))}
            except Exception:  # noqa: S110 - as in StateCodec.decode
                pass
        return {SCHEMA: self.version, **self._decode_other(data)}

    def _decode_leniently(self, data: bytes, found: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
        stored = self._version_in(found)
        if stored == self.version or self._migrate is None:
            return super()._decode_leniently(data, found)
        where = f"{self.owner}: migrate(version={stored}, ...)"
        text = self._migrated(where, self._migrate, stored, data)
        try:
            return super()._decode_leniently(text, raw_fields(text))
        except StateUnreadable as error:
            raise StateUnreadable(f"{where} returned what does not fit the class: {error.message}") from error

    def _migrated(self, where: str, migrate: Migrate, stored: int, data: bytes) -> bytes:
        plain = msgspec.json.decode(data)
        plain.pop(SCHEMA, None)
        try:
            migrated = migrate(stored, plain)
        except (Exception, SystemExit) as error:
            raise StateUnreadable(f"{where} raised {type(error).__name__}: {error}") from error
        if type(migrated) is not dict:
            raise StateUnreadable(f"{where} returned {migrated!r:.60}; it has to return the dict of the new state")
        try:
            return orjson.dumps(
                {name: value for name, value in migrated.items() if name != SCHEMA}, hook, orjson.OPT_NON_STR_KEYS
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise StateUnreadable(f"{where} returned what cannot be stored: {error.__cause__ or error}") from error
