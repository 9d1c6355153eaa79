"""`durable-engine init`: a folder in which `durable-engine run`, pytest and mypy --strict work as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from durable_engine.procrastinate_names import DEFAULT_APP, PROCRASTINATE, SCHEMA_COMMAND
from durable_engine.scaffold.creation import Created
from durable_engine.scaffold.files import Draft
from durable_engine.scaffold.templates import filled
from durable_engine.settings import CONFIG_FILE, DEFAULT_STORE, SETTINGS, default_text
from durable_storage.address import name_problem
from durable_storage.urls import directory_of, kind_of, without_password

MODULE: Final = "objects"
_SHOWN: Final = ("objects", "store", "shards", "prefix", "scheduler", "bind", "drain_timeout", "log_level")
"""The settings that a new durable.toml explains; the others are in the reference."""
_IGNORED: Final = "durable-data/"


@dataclass(frozen=True)
class Project:
    """What the new project is set to."""

    store: str = DEFAULT_STORE
    shards: int | None = None
    prefix: str = ""
    scheduler: str = "deadline"

    def __post_init__(self) -> None:
        """Refuse what no server could start with. Raises StoreUrlError, ValueError."""
        if kind_of(self.store) == "sqlite":
            directory_of(self.store)
        if self.prefix and (problem := name_problem("the prefix", self.prefix)):
            raise ValueError(problem)
        if self.scheduler == PROCRASTINATE and not self.is_postgres:
            raise ValueError("the scheduler procrastinate keeps its jobs in PostgreSQL; add --store postgresql://...")

    @property
    def is_postgres(self) -> bool:
        """Whether its schema is migrated by hand."""
        return kind_of(self.store) == "postgresql"

    def settings(self) -> dict[str, Any]:
        """What durable.toml sets; all else is left at its default."""
        chosen = {
            "shards": self.shards,
            "prefix": self.prefix or None,
            "scheduler": self.scheduler if self.scheduler != "deadline" else None,
        }
        return {"objects": [MODULE], "store": without_password(self.store)} | {
            name: value for name, value in chosen.items() if value is not None
        }


def create_project(project: Project, root: Path, *, force: bool = False) -> Created:
    """Write a project. Raises Failure where files are in the way."""
    draft = Draft(root)
    draft.create(Path(CONFIG_FILE), filled("durable.toml", settings="\n".join(_lines(project.settings()))))
    draft.create(Path(f"{MODULE}.py"), filled("objects.py"))
    draft.package(Path("tests"))
    draft.create(Path("tests", "test_counter.py"), filled("objects_test.py"))
    notices = list(_notices(project, root))
    if not (root / ".gitignore").exists():
        draft.create(Path(".gitignore"), filled("gitignore"))
    return Created(draft.write(force=force), notices)


def _lines(chosen: dict[str, Any]) -> Iterator[str]:
    """The settings with what they mean: those that are chosen, and behind a # those that are not."""
    for name in _SHOWN:
        declared = SETTINGS[name]
        yield f"# {declared.help}"
        if name in chosen:
            yield f"{name} = {_toml(chosen[name])}\n"
        elif declared.default_text:
            yield f"# {name} = 4  # default: {declared.default_text}\n"
        else:
            yield f"# {name} = {_toml(default_text(declared, declared.default))}\n"


def _toml(value: Any) -> str:
    """JSON's text, lists and numbers are TOML's, but for one character that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _notices(project: Project, root: Path) -> Iterator[str]:
    if root != Path():
        yield f"cd {root}"
    if project.is_postgres and project.store != without_password(project.store):
        yield f"put the password into ~/.pgpass, PGPASSWORD or DURABLE_STORE: it was not written to {CONFIG_FILE}"
    if project.is_postgres:
        yield f"create the database {urlsplit(project.store).path.strip('/') or 'of that URL'}, unless it is there"
        yield 'durable-engine migrate up --prefix ""' if project.prefix else "durable-engine migrate up"
        if project.prefix:
            yield f"durable-engine migrate up --prefix {project.prefix}"
    if project.scheduler == PROCRASTINATE:
        yield SCHEMA_COMMAND.format(app=DEFAULT_APP)
    yield "durable-engine config check"
    yield "durable-engine run"
    yield "durable-engine call Counter user-123 increment 5"
    yield "python -m pytest"
    ignored = root / ".gitignore"
    if ignored.exists() and _IGNORED not in ignored.read_text(encoding="utf-8", errors="replace").split("\n"):
        yield f"add {_IGNORED} to .gitignore"
