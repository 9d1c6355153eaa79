"""Generated projects as their owners see them: a folder, commands typed in it, and the tools that judge the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from durable_engine.cli import cli

ROOT = Path(__file__).parents[2]
_SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "shards", "storage", "bench"))


class Workplace:
    """An empty folder, which is the working directory too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def type(self, *words: str, **env: str) -> Result:
        """Type a command."""
        return CliRunner().invoke(cli, words, env=env)

    def done(self, *words: str) -> Result:
        """Type a command that must succeed."""
        result = self.type(*words)
        assert result.exit_code == 0, result.stderr
        return result

    def text(self, name: str) -> str:
        """A file."""
        return (self.folder / name).read_text(encoding="utf-8")

    def put(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def files(self) -> dict[str, str]:
        """All that was written, by name."""
        return {
            str(path.relative_to(self.folder)): path.read_text(encoding="utf-8", errors="replace")
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }

    def tool(self, *words: str) -> str:
        """Run a tool of Python's world in the folder; what it printed. AssertionError when it is not content."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DURABLE_", "PYTEST_"))}
        ran = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.folder,
            env=clean | {"PYTHONPATH": _SOURCES, "MYPYPATH": _SOURCES, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def is_formatted(self) -> None:
        """Ruff would change nothing, and finds nothing."""
        self.tool("ruff", "format", "--isolated", "--no-cache", "--check", ".")
        self.tool("ruff", "check", "--isolated", "--no-cache", "--select", "B,E,F,I,UP,W", "--ignore", "E501", ".")

    def is_typed(self) -> None:
        """mypy --strict finds nothing."""
        self.tool("mypy", "--strict", "--follow-imports=silent", "--cache-dir", os.devnull, ".")

    def passes(self, count: int) -> None:
        """Its own tests, so many of them, pass."""
        assert f"{count} passed" in self.tool(
            "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"
        )
