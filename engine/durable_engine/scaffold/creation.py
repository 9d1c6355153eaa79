"""`durable-engine new` as a whole: from what was typed to a module and a test on disk."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

from durable_engine.output import Failure
from durable_engine.scaffold.declaration import ClassDeclaration
from durable_engine.scaffold.files import Draft
from durable_engine.scaffold.module import extended, new_module
from durable_engine.scaffold.source import prove, source_of_class, source_of_test
from durable_engine.settings import CONFIG_FILE


class Created(NamedTuple):
    """What was written, and what may be done next."""

    written: list[str]
    next_steps: list[str]


def create(declared: ClassDeclaration, root: Path, *, force: bool = False) -> Created:
    """Write a class and its test. Raises ValueError for what cannot be declared, Failure for what is in the way."""
    source = source_of_class(declared)
    prove(declared, source)
    draft = Draft(root)
    try:
        _add_class(draft, declared, source)
    except ValueError as error:
        raise Failure(f"{error}; nothing was written") from None
    test = Path("tests") / f"test_{declared.snake}.py"
    draft.package(test.parent)
    draft.create(test, source_of_test(declared))
    return Created(draft.write(force=force), [*_to_serve(declared.module, root), f"python -m pytest {test}"])


def _add_class(draft: Draft, declared: ClassDeclaration, source: str) -> None:
    path = _path_of(declared.module, draft.root)
    file = draft.root / path
    if file.exists():
        draft.change(path, extended(_read(file), source, declared.name, declared.module))
    else:
        draft.package(path.parent)
        draft.create(path, new_module(source))


def _path_of(module: str, root: Path) -> Path:
    """The file of a module, as Python finds it from `root`; below src/ where the package is there already."""
    path = Path(*module.split("."))
    if (root / "src" / path.parts[0]).is_dir():
        path = "src" / path
    for above in [*path.parents][:-1]:
        if (root / above.with_suffix(".py")).exists() and not (root / above).is_dir():
            raise ValueError(f"{above.with_suffix('.py')} is a module, so there can be no {module} inside of it")
    return path / "__init__.py" if (root / path).is_dir() else path.with_suffix(".py")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _to_serve(module: str, root: Path) -> list[str]:
    """What is left to do until a server has the class."""
    try:
        served = tomllib.loads((root / CONFIG_FILE).read_text(encoding="utf-8")).get("objects", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return [f"durable-engine run {module}"]
    if {module, f"{module.replace('.', '/')}.py"} & set(served):
        return ["durable-engine run"]
    return [f'add "{module}" to objects in {CONFIG_FILE}', "durable-engine run"]
