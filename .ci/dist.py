"""What a release consists of, and whether it works: builds both archives, installs the wheel where nothing else is,
and makes a project and a call with it.

    python .ci/dist.py                        dependencies come from the package index, as they do for users
    python .ci/dist.py --dependencies=here    from this environment: quick, and without a network

The wheel is built from the unpacked sdist, so that it also shows that the sdist is complete. What is installed runs in
folders of its own, with none of this tree's sources in sight. Warnings are errors there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import asyncio, sys
from durable_engine import Engine
from objects import Counter

async def main():
    async with Engine("sqlite:///durable-data", objects=[Counter], shards=int(sys.argv[1])) as engine:
        return await engine.at(Counter, "smoke").increment(2)

if __name__ == "__main__":
    print(asyncio.run(main()))
"""


def main() -> None:
    """Build, install, call. Ends with an error where any of it fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--dependencies", choices=["index", "here"], default="index")
    parser.add_argument("--directory", type=Path, default=ROOT / "dist", help="where the archives go")
    chosen = parser.parse_args()
    wheel = build(chosen.directory.resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        python = install(wheel, folder / "venv", from_index=chosen.dependencies == "index")
        smoke(wheel, python, folder)
    print("built, installed and called:", *sorted(path.name for path in chosen.directory.iterdir()))


def build(directory: Path) -> Path:
    """Make the sdist, and from it the wheel."""
    shutil.rmtree(directory, ignore_errors=True)
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    run([*hatchling, "--target", "sdist"], ROOT)
    [sdist] = directory.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(sdist) as archive:
            archive.extractall(name, filter="data")
        [unpacked] = Path(name).iterdir()
        run([*hatchling, "--target", "wheel"], unpacked)
    [wheel] = directory.glob("*.whl")
    return wheel


def install(wheel: Path, venv: Path, *, from_index: bool) -> Path:
    """Install the wheel in an environment of its own; its Python."""
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)], ROOT)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, *([] if from_index else ["--no-deps", "--no-index"]), str(wheel)], ROOT)
    if not from_index:
        [packages] = venv.glob("lib/python*/site-packages")
        # Paths in a .pth file come last, and those files in them are not read: an editable install stays unseen.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def smoke(wheel: Path, python: Path, folder: Path) -> None:
    """The console script says which release it is; a new project counts, in this process and in another."""
    where = run([str(python), "-c", "import durable_engine; print(durable_engine.__file__)"], folder)
    expect(where.startswith(str(folder)), f"it was not the wheel that was imported, but {where}")
    script = str(python.with_name("durable-engine"))
    release = run([script, "version"], folder).split(",")[0].split()[-1]
    expect(wheel.name.startswith(f"durable_engine-{release}-"), f"{wheel.name} says that it is release {release}")
    project = folder / "project"
    run([script, "init", str(project)], folder)
    (project / "smoke.py").write_text(PROGRAM)
    said = [run([str(python), "-W", "error", "smoke.py", shards], project).strip() for shards in ("0", "1")]
    expect(said == ["2", "4"], f"calls answered {said}")


def run(words: list[str], folder: Path) -> str:
    """Run a program in a folder, with neither our sources nor our settings in its environment; what it printed."""
    clean = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("DURABLE_")
    }
    ran = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    expect(ran.returncode == 0, f"$ {' '.join(words)}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def expect(condition: bool, problem: str) -> None:
    """End with an error unless it is so."""
    if not condition:
        raise SystemExit(problem)


if __name__ == "__main__":
    main()
