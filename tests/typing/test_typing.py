"""The typed interface, as type checkers see it: right use is clean, and every planted mistake is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
EXPECTED = re.compile(r"# expect: \w+")


def mypy(*files: Path, cache: Path) -> dict[str, set[int]]:
    """The lines that mypy --strict reports, by file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--show-absolute-path"]
    found = subprocess.run(
        [*command, "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(cache), *map(str, files)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode in (0, 1), found.stdout + found.stderr
    return by_file(re.findall(r"^(.+?):(\d+): error: ", found.stdout, re.MULTILINE))


def pyright(*files: Path) -> dict[str, set[int]]:
    """The lines that pyright reports, by file."""
    found = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, files)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode in (0, 1), found.stdout + found.stderr
    reports = json.loads(found.stdout)["generalDiagnostics"]
    errors = [each for each in reports if each["severity"] == "error"]
    return by_file([(each["file"], each["range"]["start"]["line"] + 1) for each in errors])


def by_file(lines: list[tuple[str, int | str]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for name, line in lines:
        found.setdefault(Path(name).name, set()).add(int(line))
    return found


def marked(path: Path) -> set[int]:
    lines = path.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if EXPECTED.search(line)}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_find_each_planted_mistake_and_nothing_else(checker: str, tmp_path: Path) -> None:
    """parity 22: exactly the marked lines of planted.py are reported, and none of correct.py."""
    files = (HERE / "correct.py", HERE / "planted.py")
    found = mypy(*files, cache=tmp_path) if checker == "mypy" else pyright(*files)
    assert found.pop("correct.py", set()) == set()
    assert found.pop("planted.py") == marked(HERE / "planted.py")
    assert found == {}
