"""Addresses of objects, the rule that ids follow, and the partition an address falls into."""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from durable_storage.limits import ID_BYTES_MAX, NAME_BYTES_MAX, PARTITIONS


class Address(NamedTuple):
    """(prefix, class, id). The prefix of the default tenant is the empty string."""

    prefix: str
    object_type: str
    object_id: str

    def __str__(self) -> str:
        """Unambiguous: what separates the parts is escaped in all but the last."""
        head = f"{_escaped(self.prefix)}:" if self.prefix else ""
        return f"{head}{_escaped(self.object_type)}/{self.object_id}"


def partition_of(prefix: str, object_type: str, object_id: str) -> int:
    """The partition, 0 to 1023, of an address: CRC-32 of its parts joined by NUL. Part of the protocol."""
    return crc32(f"{prefix}\0{object_type}\0{object_id}".encode()) % PARTITIONS


def partition_in(class_crc: int, object_id: str) -> int:
    """The same, from the CRC of what comes before the id (`crc_of_class`): for those who ask for many of one class."""
    return crc32(object_id.encode(), class_crc) % PARTITIONS


def crc_of_class(prefix: str, object_type: str) -> int:
    """What `partition_in` begins with."""
    return crc32(f"{prefix}\0{object_type}\0".encode())


def partitions_of_shard(shard: int, shards: int) -> range:
    """The contiguous partitions that shard number `shard` of `shards` owns; sizes differ by one at most."""
    return range(shard * PARTITIONS // shards, (shard + 1) * PARTITIONS // shards)


def id_problem(object_id: object) -> str | None:
    """Why `object_id` cannot be an id, or None: 1 to 512 bytes of UTF-8, no NUL, no lone surrogate.

    Ids are compared byte by byte; nothing is normalised, so two spellings of one glyph are two objects.
    """
    if type(object_id) is str and object_id.isascii() and 0 < len(object_id) <= ID_BYTES_MAX and "\0" not in object_id:
        return None
    return _text_problem("object id", object_id, ID_BYTES_MAX)


def name_problem(what: str, name: object) -> str | None:
    """Why `name` cannot name a class, handler, alarm or prefix, or None. `what` starts the message."""
    return _text_problem(what, name, NAME_BYTES_MAX)


def _escaped(part: str) -> str:
    if "/" in part or ":" in part or "%" in part:
        return part.replace("%", "%25").replace("/", "%2F").replace(":", "%3A")
    return part


def _text_problem(what: str, text: object, bytes_max: int) -> str | None:
    if type(text) is not str:
        return f"{what} must be a str, not {type(text).__name__}"
    if not text:
        return f"{what} must not be empty"
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return f"{what} must be valid Unicode text without lone surrogates"
    if "\0" in text:
        return f"{what} must not contain NUL"
    if size > bytes_max:
        return f"{what} is {size} bytes of UTF-8, more than the {bytes_max} allowed"
    return None
