"""Peers from the public registries, each in a folder of its own below one cache, in pinned versions."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from pathlib import Path

from durable_bench.errors import NoPostgres
from durable_bench.peers.peer import NotAvailable
from durable_bench.postgres_server import find_binaries

INSTALL_SECONDS = 600.0
SAID_LETTERS_MAX = 600
_RECORD = "installed.json"


async def npm_install(folder: Path, packages: Mapping[str, str]) -> Path:
    """Have these packages of npm in `folder`; its `node_modules`. Raises NotAvailable."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NotAvailable(f"there is no {program} here; install Node.js 20.18 or later")
    if not _is_installed(folder, packages):
        _anew(folder)
        (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": dict(packages)}, indent=2))
        await _run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder)
        _record(folder, packages)
    return folder / "node_modules"


async def pip_install(folder: Path, packages: Mapping[str, str], *more: str) -> Path:
    """Have these packages of PyPI, and `more` requirements, in an environment in `folder`; its Python.

    Raises NotAvailable.
    """
    python = folder / "bin" / "python"
    wanted = {**packages, **dict.fromkeys(more, "")}
    if not _is_installed(folder, wanted):
        _anew(folder)
        await _run([sys.executable, "-m", "venv", str(folder)], folder)
        requirements = [f"{name}=={version}" for name, version in packages.items()]
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        await _run([*pip, *requirements, *more], folder)
        _record(folder, wanted)
    return python


async def generate(
    words: Sequence[str | Path], folder: Path, source: Path, makes: Path, env: Mapping[str, str] | None = None
) -> None:
    """Run a generator of a peer in `folder`, unless what it makes of `source` is there and newer. Raises NotAvailable.

    `env` is added to ours.
    """
    if _is_newer(makes, source):
        return
    await _run([str(word) for word in words], folder, env)
    # A generator that changes nothing need not touch its files.
    _touch(makes)
    if not _is_newer(makes, source):
        raise NotAvailable(f"{' '.join(map(str, words))} did not make {makes}")


def _is_newer(makes: Path, source: Path) -> bool:
    return makes.exists() and makes.stat().st_mtime >= source.stat().st_mtime


def _touch(makes: Path) -> None:
    if makes.exists():
        makes.touch()


def chosen_versions(pinned: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """The pinned versions with those that the user asks for in their place."""
    return {name: overrides.get(name, version) for name, version in pinned.items()}


def tools() -> dict[str, str]:
    """Versions of what peers rest on and the machine brings along: Node.js and PostgreSQL, where they are found."""
    programs = {"node": shutil.which("node")}
    try:
        programs["postgres"] = str(find_binaries() / "postgres")
    except NoPostgres:
        pass  # a machine without it has no version of it to tell
    found = {}
    for name, program in programs.items():
        if program is not None:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            found[name] = said.stdout.strip()
    return found


def _is_installed(folder: Path, packages: Mapping[str, str]) -> bool:
    record = folder / _RECORD
    return record.exists() and json.loads(record.read_text()) == dict(packages)


def _record(folder: Path, packages: Mapping[str, str]) -> None:
    """Written last, so that an installation that was broken off is made anew."""
    (folder / _RECORD).write_text(json.dumps(dict(packages)))


def _anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


async def _run(words: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *words, cwd=folder, env=os.environ | dict(env or {}), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
    except OSError as error:
        raise NotAvailable(f"{words[0]} cannot be run: {error}") from error
    try:
        said, _ = await asyncio.wait_for(process.communicate(), INSTALL_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NotAvailable(f"{' '.join(words)} took longer than {INSTALL_SECONDS:.0f} s") from None
    if process.returncode:
        last = said.decode(errors="replace").strip()[-SAID_LETTERS_MAX:]
        raise NotAvailable(f"{' '.join(words)} ended with {process.returncode}: {last}")
