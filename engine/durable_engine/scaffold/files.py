"""Writes files together: all of them, or none. What somebody else wrote is never written over unasked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from durable_engine.output import Failure


class Draft:
    """What is to be written below a folder; nothing is until `write`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._created: dict[Path, str] = {}
        self._changed: dict[Path, str] = {}

    def create(self, path: Path, text: str) -> None:
        """A file that must not exist yet. Paths are relative to the folder."""
        self._created[path] = text

    def change(self, path: Path, text: str) -> None:
        """A file that exists, with its new text."""
        self._changed[path] = text

    def package(self, folder: Path) -> None:
        """Make every folder that does not exist yet a package. Folders that exist are left as they are."""
        for each in [folder, *folder.parents][:-1]:
            if not (self.root / each).exists():
                self._created[each / "__init__.py"] = ""

    def write(self, *, force: bool = False) -> list[str]:
        """Write everything; the names of the files. Raises Failure, with nothing written or all of it undone.

        With `force` files that are in the way are written over.
        """
        in_the_way = [str(path) for path in self._created if os.path.lexists(self.root / path)]
        if in_the_way and not force:
            raise Failure(
                f"nothing was written, since there is already {', '.join(sorted(in_the_way))} in {self._shown}",
                hint="move what is there, or write over it with --force",
            )
        _write_all(self.root, self._created | self._changed)
        return sorted(str(path) for path in {*self._created, *self._changed})

    @property
    def _shown(self) -> str:
        return "this folder" if self.root == Path() else str(self.root)


def _write_all(root: Path, texts: Mapping[Path, str]) -> None:
    before: dict[Path, bytes | None] = {}
    folders: list[Path] = []
    try:
        for relative, text in texts.items():
            path = (root / relative).resolve()
            folders += _make(path.parent)
            old = path.read_bytes() if path.exists() else None
            before[path] = old
            newline = "\r\n" if old and b"\r\n" in old else "\n"
            path.write_text(text, encoding="utf-8", newline=newline)
    except OSError as error:
        _restore(before, folders)
        raise Failure(f"{relative} cannot be written ({error.strerror}); everything is as it was") from None


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; the ones that were not there, outermost first."""
    missing = [each for each in [folder, *folder.parents] if not each.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _restore(before: Mapping[Path, bytes | None], folders: list[Path]) -> None:
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)
    for folder in reversed(folders):
        with suppress(OSError):  # somebody else has put something there
            folder.rmdir()
