"""The schema's history: numbered SQL files, their checksums, and what is to be done between two versions.

`sql/<dialect>/migrations/0001_initial.up.sql` and `.down.sql`. What was applied is written down in the table
`durable_migrations` of the same schema or file, in the same transaction as the step itself, so that an interrupted
migration is either done or not. `sql/<dialect>/schema.sql` is the sum of all steps (a test compares the two).

A file whose first line is `-- only without a prefix` makes tables that exist once, not per tenant; it is noted as
applied everywhere, so that all tenants count the same versions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from durable_storage.errors import SchemaMismatch
from durable_storage.queries import SQL_DIRECTORY, Dialect

_FILE: Final = re.compile(r"(\d{4})_(\w+)\.up\.sql")
_ONLY_WITHOUT_PREFIX: Final = "-- only without a prefix"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, both ways."""

    version: int
    name: str
    up: str
    down: str

    @property
    def label(self) -> str:
        """As its files are called: "0001_initial"."""
        return f"{self.version:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """Of what the step does, so that an edited file is noticed."""
        return hashlib.sha256(self.up.encode()).hexdigest()[:16]

    def script(self, direction: str, prefix: str) -> str:
        """The SQL to run for a tenant; empty for a step that is none of its business."""
        if prefix and self.up.startswith(_ONLY_WITHOUT_PREFIX):
            return ""
        return self.up if direction == "up" else self.down


class Applied(NamedTuple):
    """A row of `durable_migrations`."""

    version: int
    name: str
    checksum: str


@cache
def known_migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """All steps that this release ships, in order."""
    directory = SQL_DIRECTORY / dialect / "migrations"
    found = []
    for path in sorted(directory.glob("*.up.sql")):
        match = _FILE.fullmatch(path.name)
        assert match, f"{path} is not called NNNN_name.up.sql"
        down = path.with_name(path.name.replace(".up.", ".down."))
        found.append(Migration(int(match[1]), match[2], path.read_text(), down.read_text()))
    assert [step.version for step in found] == list(range(1, len(found) + 1)), f"a gap in {directory}"
    return tuple(found)


def latest_version(dialect: Dialect) -> int:
    """The version that this release needs."""
    return len(known_migrations(dialect))


def current_version(dialect: Dialect, applied: Sequence[Applied], where: str) -> int:
    """The version that `applied` amounts to; 0 for none. `where` begins the message.

    Raises SchemaMismatch on a gap, an unknown newer step, or a step that was applied with another content.
    """
    known = known_migrations(dialect)
    for expected, row in enumerate(sorted(applied), start=1):
        if expected > len(known):  # whether a number is missing from here on is for that release to say
            newest = max(row.version for row in applied)
            raise SchemaMismatch(
                f"{where} is at schema version {newest}, which a newer release of durable-engine made; this one knows "
                f"versions up to {len(known)}: install the release that migrated it"
            )
        if row.version != expected:
            raise SchemaMismatch(
                f"{where} has migration {row.version:04}_{row.name} but lacks number {expected:04}: its table "
                "durable_migrations was changed by hand. Restore it from a backup"
            )
        if row.checksum != known[expected - 1].checksum:
            raise SchemaMismatch(
                f"{where} was migrated with another text of {known[expected - 1].label} than this release has: "
                "the files of one of the two installations were edited; install the release that migrated it"
            )
    return len(applied)


def unversioned(where: str) -> SchemaMismatch:
    """The refusal of tables that no migration has written down: nobody can say which version they have."""
    return SchemaMismatch(
        f"{where} has a table durable_objects, but no history of migrations says which version it is: restore the "
        "table durable_migrations from a backup, or move these tables out of the way"
    )


class Step(NamedTuple):
    """One migration in one direction."""

    direction: str
    migration: Migration


def plan(dialect: Dialect, current: int, to: int | None, direction: str | None = None) -> list[Step]:
    """The steps from version `current` to version `to` (None: the latest), in `direction` only if one is given."""
    known = known_migrations(dialect)
    target = len(known) if to is None else to
    if not 0 <= target <= len(known):
        raise SchemaMismatch(f"there is no schema version {target}: this release knows 0 to {len(known)}")
    if (direction == "up" and target < current) or (direction == "down" and target > current):
        raise SchemaMismatch(f"the schema is at version {current}: version {target} is not {direction} from there")
    if target >= current:
        return [Step("up", step) for step in known[current:target]]
    return [Step("down", step) for step in reversed(known[target:current])]
