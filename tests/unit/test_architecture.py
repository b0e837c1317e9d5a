"""Which package imports which: the contracts of pyproject.toml, and that each would notice a breach."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_provider_k2"
LINT = Path(sys.executable).with_name("lint-imports")


def test_each_layer_imports_only_those_below_it() -> None:
    done = subprocess.run([LINT, "--no-cache"], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("commit/record.py", "import airflow_provider_k2.offload.run"),
        ("tables/model.py", "def late() -> None:\n    import pyarrow"),
        ("warm/ttl.py", "def late() -> None:\n    from airflow.sdk import BaseHook"),
        ("operators/retention.py", "from airflow_provider_k2.local.home import HOST"),
    ],
)
def test_a_breach_is_told(module: str, line: str, tmp_path: Path) -> None:
    copy = tmp_path / "airflow_provider_k2"
    for file in PACKAGE.rglob("*.py"):
        place = copy / file.relative_to(PACKAGE)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (copy / module).write_text(f"{(copy / module).read_text()}\n\n{line}\n")
    done = subprocess.run([LINT, "--no-cache"], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert module.removesuffix(".py").replace("/", ".") in done.stdout


def test_the_root_holds_what_every_package_needs() -> None:
    assert sorted(file.stem for file in PACKAGE.glob("*.py")) == [
        "__init__",
        "exceptions",
        "failpoints",
        "get_provider_info",
        "render",
        "resources",
        "windows",
    ]


def test_the_tests_tree_mirrors_the_packages() -> None:
    folders = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    for kind in ("unit", "integration"):
        extra = {folder.name for folder in (ROOT / "tests" / kind).iterdir() if any(folder.glob("*.py"))} - folders
        assert not extra, f"tests/{kind} has folders that the package has not: {sorted(extra)}"


def test_every_module_says_what_it_holds() -> None:
    bare = [str(file) for file in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(file.read_text()))]
    assert not bare


def test_a_module_holds_less_than_300_lines() -> None:
    long = {
        str(file.relative_to(PACKAGE)): lines
        for file in PACKAGE.rglob("*.py")
        if (lines := len(file.read_text().splitlines())) >= 300 and PACKAGE / "local" not in file.parents
    }
    assert not long
