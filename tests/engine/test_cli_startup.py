"""A command line that answers at once."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from durable_engine.release import RELEASE

ROOT = Path(__file__).parents[2]
HEAVY = {"apsw", "asyncio", "asyncpg", "durable_shards", "importlib.metadata", "json", "msgspec", "uvloop", "zmq"}
# The list of commands has those of other packages too, which are found by reading what is installed.
FOR_A_LIST = {"importlib.metadata", "json"}
SCRIPT = """\
import sys
sys.path[:0] = sys.argv.pop(1).split(":")
from durable_engine.cli import cli
try:
    cli.main(sys.argv[1:])
except SystemExit:
    pass
print("\\n".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words", [["version"], ["--help"], ["run", "--help"], ["completion", "bash"], ["call", "--frob"], ["run"]]
)
def test_what_needs_no_engine_does_not_load_it(words: list[str], tmp_path: Path) -> None:
    """Half of the engine's start-up time would be imports that help nobody here."""
    path = ":".join(str(ROOT / folder) for folder in ("engine", "shards", "storage"))
    command = [sys.executable, "-c", SCRIPT, path, *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    heavy = HEAVY - FOR_A_LIST if words == ["--help"] else HEAVY
    assert set(result.stderr.splitlines()) & heavy == set()


def test_the_release_is_that_of_the_distribution() -> None:
    """It is written down twice: in pyproject.toml for pip, in release.py for speed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == RELEASE


def test_version_tells_the_release_in_both_forms(tmp_path: Path) -> None:
    """Also as `python -m durable_engine`."""
    command = [sys.executable, "-m", "durable_engine", "version"]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert text.startswith(f"durable-engine {RELEASE}, Python 3.")
    found = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert json.loads(found)["durable-engine"] == RELEASE
