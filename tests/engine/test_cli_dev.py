"""What `durable-engine dev` watches."""

from __future__ import annotations

from pathlib import Path

from durable_engine.commands.dev import code_root, snapshot


def make(root: Path, *names: str) -> None:
    """Files below a folder."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1\n")


def test_a_lone_file_is_watched_with_its_folder(tmp_path: Path) -> None:
    """Modules beside it can be imported by it."""
    make(tmp_path, "counter.py", "helper.py")
    assert code_root(tmp_path / "counter.py") == tmp_path


def test_a_file_of_a_package_is_watched_with_the_topmost_package(tmp_path: Path) -> None:
    """Any module of the package may be what it imports."""
    make(tmp_path, "shop/__init__.py", "shop/sale/__init__.py", "shop/sale/cart.py")
    assert code_root(tmp_path / "shop" / "sale" / "cart.py") == tmp_path / "shop"


def test_only_code_is_watched(tmp_path: Path) -> None:
    """Data, caches, hidden folders and virtual environments do not restart a server."""
    make(
        tmp_path,
        "a.py",
        "deep/er/b.py",
        "data.json",
        ".hidden/c.py",
        "__pycache__/d.py",
        "venv/pyvenv.cfg",
        "venv/lib/e.py",
        "node_modules/f.py",
    )
    assert {Path(name).name for name in snapshot(tmp_path)} == {"a.py", "b.py"}


def test_a_snapshot_changes_with_content_and_with_files_that_come_and_go(tmp_path: Path) -> None:
    """Each kind of change is one difference."""
    make(tmp_path, "a.py", "b.py")
    before = snapshot(tmp_path)
    assert snapshot(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 123\n")
    edited = snapshot(tmp_path)
    (tmp_path / "b.py").unlink()
    removed = snapshot(tmp_path)
    make(tmp_path, "c.py")
    added = snapshot(tmp_path)
    assert len({repr(sorted(each.items())) for each in (before, edited, removed, added)}) == 4


def test_a_folder_that_is_gone_is_no_code(tmp_path: Path) -> None:
    """It may vanish while it is looked at."""
    assert snapshot(tmp_path / "gone") == {}
