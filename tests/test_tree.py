"""The tree itself is tidy: small files, short functions, live links, and nothing that does not belong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "shards", "storage", "bench")
SKIPPED = {".git", ".venv", "build", "dist", "durable-data", "bench-results", "chaos-results"}

FILE_LINES_MAX = 400
FILE_BYTES_MAX = 300_000
FUNCTION_LINES_MAX = 60
FORBIDDEN = {
    r"\bpickle\b": "no pickle anywhere: what arrives from outside is data, never code",
    r"\bprint\(.*#\s*debug": "a forgotten print",
    r"\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b": "finish it, or write down the limit where users look for it",
    r"\bbreakpoint\(": "a forgotten break point",
    r"shell=True": "programs are started with a list of words",
}


def files(*suffixes: str, below: Path = ROOT) -> Iterator[Path]:
    """Files of the project with these suffixes, generated folders left out."""
    for path in sorted(below.rglob("*")):
        if path.suffix in suffixes and path.is_file() and not is_generated(path):
            yield path


def is_generated(path: Path) -> bool:
    """Whether it lies in a folder that is no part of the project."""
    parts = path.relative_to(ROOT).parts
    return any(part in SKIPPED or part.startswith(".") or part == "__pycache__" for part in parts)


def sources() -> list[Path]:
    """Python files that are shipped."""
    return [path for package in PACKAGES for path in files(".py", below=ROOT / package)]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_too_long_to_be_read_in_one_go() -> None:
    """A Python file, tests included, has at most 400 lines."""
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in files(".py")}

    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_nothing_big_and_nothing_built_is_kept() -> None:
    """The tree holds sources: no file above 300 kB, no wheels, archives or databases."""
    built = {".whl", ".gz", ".zip", ".tar", ".so", ".pyc", ".sqlite3", ".log"}
    kept = [path for path in ROOT.rglob("*") if path.is_file() and not is_generated(path)]

    assert [name_of(path) for path in kept if path.suffix in built or path.stat().st_size > FILE_BYTES_MAX] == []


def test_no_function_is_longer_than_a_screen() -> None:
    """A shipped function has at most 60 lines, docstring included."""
    too_long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    too_long[f"{name_of(path)}:{node.name}"] = lines

    assert too_long == {}


def test_every_module_tells_what_it_is_for() -> None:
    """Each shipped module begins with a docstring."""
    silent = [name_of(path) for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))]

    assert silent == []


def test_every_test_states_its_behaviour_in_a_sentence() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{name_of(path)}:{node.name}"
        for path in files(".py", below=ROOT / "tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


@pytest.mark.parametrize(("pattern", "reason"), FORBIDDEN.items())
def test_nothing_forbidden_is_left_in_the_sources(pattern: str, reason: str) -> None:
    """Shipped sources hold no forgotten work and no dangerous habits."""
    found = [
        f"{name_of(path)}:{number}: {reason}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line) and "no pickle" not in line.lower() and "never pickle" not in line.lower()
    ]

    assert found == []


def test_no_test_is_skipped() -> None:
    """Tests run everywhere: what they need is found, or made, or the run fails."""
    forbidden = re.compile(r"pytest\.mark\.(skip|xfail)|pytest\.skip\(|importorskip")
    found = [
        f"{name_of(path)}:{number}"
        for path in files(".py", below=ROOT / "tests")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if forbidden.search(line)
    ]

    assert found == []


def test_text_files_end_their_lines_alike() -> None:
    """No tab, carriage return or trailing blank in Python, Markdown or SQL, and one newline at the end."""
    untidy = []
    for path in files(".py", ".md", ".sql", ".toml", ".tmpl"):
        text = path.read_text()
        if re.search(r"[ \t]+$|\r|\t", text, re.MULTILINE) or not re.search(r"(\A|[^\n]\n)\Z", text):
            untidy.append(name_of(path))

    assert untidy == []


def test_links_in_the_documentation_lead_somewhere() -> None:
    """A relative link in a Markdown file names a file that exists, and a heading that it has."""
    dead = []
    for page in files(".md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
            if not re.match(r"[a-z]+:", target):
                name, _, anchor = target.partition("#")
                linked = (page.parent / name).resolve() if name else page
                if not linked.exists() or (anchor and anchor not in anchors(linked)):
                    dead.append(f"{name_of(page)}: {target}")

    assert dead == []


def test_the_documentation_has_no_orphans() -> None:
    """parity 114: every page below docs/ can be reached from docs/index.md."""
    reached, waiting = set[Path](), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text()))
        waiting += [(page.parent / link).resolve() for link in links if not re.match(r"[a-z]+:", link)]

    assert [name_of(page) for page in files(".md", below=ROOT / "docs") if page not in reached] == []


def test_a_wheel_holds_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    """What pip would install: four typed packages with their data files, and no tests."""
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in held if ".dist-info/" not in name}

    assert tops == {"durable_engine", "durable_shards", "durable_storage", "durable_bench"}
    assert {f"{top}/py.typed" for top in tops} <= held
    assert {name for name in shipped_data() if name not in held} == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)


def shipped_data() -> set[str]:
    """SQL, templates, and the sources of peers in other languages, as a wheel must name them."""
    kinds = (".sql", ".tmpl", ".mjs", ".js", ".capnp")
    return {str(path.relative_to(ROOT / top)) for top in PACKAGES for path in files(*kinds, below=ROOT / top)}


def without_code(text: str) -> str:
    """A page without its code, which may hold brackets of its own."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
