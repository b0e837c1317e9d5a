"""`make demo` hands names on as they are: no shell and no make looks into them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOW = f"""#!{sys.executable}
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("K2_DEMO_DATA"), os.environ.get("K2_DEMO_ENGINE")]))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the Makefile with an environment that is ready, whose `k2` shows what reaches it."""
    project = tmp_path / "project"
    (project / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", project)
    for name in (
        "requirements/airflow-3.3.txt",
        "pyproject.toml",
        ".ci/make-venv",
        ".ci/system-packages",
        ".venv/ready",
    ):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).touch()
    (project / ".venv" / "bin" / "k2").write_text(SHOW)
    (project / ".venv" / "bin" / "k2").chmod(0o755)
    return project


@pytest.mark.parametrize(
    "name",
    [
        "recordings",
        "it's",
        '"quoted"',
        "$(touch hit)",
        "$$(touch hit)",
        "`touch hit`",
        "; touch hit;",
        "a b",
        "new\nline",
        "-rf",
        "$(shell touch hit)",
        "${HOME}",
        "#x",
        "%",
        "\\",
    ],
)
def test_a_name_is_data(copy: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    (folder / f"{name}.jsonl").touch()
    given = str(folder) if name != "-rf" else name
    done = subprocess.run(
        ["make", "--silent", "demo", f"DATA={given}", f"ENGINE={name}"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["demo"], given, name]
    assert not list(tmp_path.rglob("hit"))


def test_without_names_nothing_is_given(copy: Path) -> None:
    done = subprocess.run(["make", "--silent", "demo"], cwd=copy, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["demo"], "", ""]
