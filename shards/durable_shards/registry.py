"""Which classes an engine serves: from classes, modules, files, or one class of a module or file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

from durable_shards.errors import DefinitionError
from durable_shards.object import DurableObject
from durable_shards.spec import ClassSpec, Options, spec_of
from durable_storage.store import Served

__all__ = ["ClassSpec", "Options", "Registry", "spec_of"]


class Registry:
    """The classes that one engine serves, by stored name."""

    def __init__(self, classes: Mapping[str, ClassSpec]) -> None:
        self.classes: dict[str, ClassSpec] = dict(classes)

    def served(self) -> Served:
        """What these classes can do with alarms."""
        specs = self.classes.values()
        return Served(
            tuple(spec.name for spec in specs if spec.handle_alarm is not None),
            tuple((spec.name, name) for spec in specs if spec.handle_alarm is None for name in spec.alarms),
        )

    @classmethod
    def load(cls, objects: Iterable[type[Any] | str]) -> Registry:
        """The registry of what was named.

        Each is a class, a module ("shop.objects"), a file ("examples/flights/objects.py"), or one class of either
        ("shop.objects:Cart", "objects.py:Cart"). Raises DefinitionError.
        """
        if isinstance(objects, (str, type)):
            objects = [objects]
        registry = cls({})
        for each in objects:
            for spec in _named(each) if isinstance(each, str) else [spec_of(each)]:
                registry.add(spec)
        return registry

    def add(self, spec: ClassSpec) -> None:
        """Serve one class more. Raises DefinitionError for another one of the same stored name."""
        other = self.classes.setdefault(spec.name, spec)
        if other.cls is not spec.cls:
            first, second = (f"{one.cls.__module__}.{one.cls.__qualname__}" for one in (other, spec))
            said = f"{first} and {second} have one stored name, {spec.name!r}, and cannot be served together"
            raise DefinitionError(f"{said}; give one another: class {spec.cls.__name__}(DurableObject, name=...)")


def _named(text: str) -> list[ClassSpec]:
    where, colon, name = text.rpartition(":") if ":" in text else (text, "", "")
    module = _file(Path(where)) if where.endswith(".py") else _module(where)
    if colon:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise DefinitionError(f"{text}: {where} has no class {name!r}; it has: {_listed(module)}")
        return [spec_of(found)]
    served = [value for value in vars(module).values() if _is_served(value)]
    if not served:
        raise DefinitionError(f"{where} declares no DurableObject, only: {_listed(module)}")
    return [spec_of(each) for each in dict.fromkeys(served)]


def _is_served(value: Any) -> bool:
    """Public, concrete classes; private ones are bases of others."""
    return (
        isinstance(value, type)
        and issubclass(value, DurableObject)
        and value is not DurableObject
        and not value.__name__.startswith("_")
        and not inspect.isabstract(value)
    )


def _listed(module: ModuleType) -> str:
    classes = [
        name for name, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return ", ".join(classes) or "no class at all"


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        advice = "give a module that Python can import from here, or a file ending in .py"
        raise DefinitionError(f"there is no module {name!r}; {advice}") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, DefinitionError):
            raise
        raise DefinitionError(f"{name!r} names no module: {error}") from error


def _file(path: Path) -> ModuleType:
    """A file as a module of its stem's name; its folder becomes importable, as with `python file.py`."""
    path = path.resolve()
    if not path.is_file():
        raise DefinitionError(f"there is no file {path}")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) and Path(str(module.__file__)).resolve() == path:
            return module
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_{crc32(str(path).encode()):08x}"
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
