"""The wheel alone, in a bare Airflow environment with nothing of the checkout beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements/airflow-3.3.txt"

DAG = """
from airflow.sdk import DAG
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator

with DAG("wheel", schedule=None):
    ClickHouseToIcebergOperator(
        task_id="offload",
        table={{"source": "test.{name}", "target": "cold.{name}", "layer": "bronze", "cursor": "at", "safety_lag": 0}},
    )
"""

FOUND = """
import json
from airflow.providers_manager import ProvidersManager
from airflow_provider_k2.resources import include_dir, spark_dir, sql_dir
assert "airflow-provider-k2" in ProvidersManager().providers
print(json.dumps([str(include_dir()), *(len(list(folder.iterdir())) for folder in
    (spark_dir(), sql_dir("clickhouse"), sql_dir("postgres")))]))
"""

pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)], cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment with Airflow and the wheel, and none of the extras."""
    folder = tmp_path_factory.mktemp("bare")
    run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)])
    python = folder / "bin/python"
    # The lock's versions are in uv's cache: nothing is resolved anew.
    install = ["uv", "pip", "install", "--quiet", "--python", str(python), "--constraints", str(LOCK)]
    run([*install, "apache-airflow"])
    run([*install, str(wheel)])
    return python


def run(
    command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None, timeout: int = 300
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def alone(home: Path) -> dict[str, str]:
    """The environment without a way to the checkout, and with an Airflow of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "PYTHON", "K2_"))}
    return {
        **kept,
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }


def test_the_wheel_holds_the_sql_and_the_spark_job_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    needed = {
        f"airflow_provider_k2/include/{path.relative_to(ROOT / 'include')}"
        for part in ("sql", "spark")
        for path in (ROOT / "include" / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert needed <= held
    assert {name for name in held if "/include/" in name} == needed
    assert {"airflow_provider_k2/tables/standard.yaml", "airflow_provider_k2/py.typed"} <= held
    templates = (ROOT / "airflow_provider_k2/plugins/templates").iterdir()
    assert {f"airflow_provider_k2/plugins/templates/{path.name}" for path in templates} <= held
    assert all(name.startswith("airflow_provider_k2/") for name in held)


def test_the_wheel_caps_airflow_through_no_extra_but_the_plugin(wheel: Path) -> None:
    """What pip reads: `Requires-Dist` of the wheel, extras included."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        required = [Requirement(text) for text in message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])]
    assert [str(one.specifier) for one in required if one.name == "apache-airflow"] == [">=2.11"]
    plugin = [one for one in required if one.name == "airflow-clickhouse-plugin"]
    assert [str(one.marker) for one in plugin] == ['extra == "plugin"']


def test_the_bare_environment_has_no_plugin(bare: Path) -> None:
    """So what runs in it runs without: DriverHook asks ClickHouse."""
    done = run([str(bare), "-c", "import importlib.util as u; print(u.find_spec('airflow_clickhouse_plugin'))"])
    assert done.stdout.strip() == "None"


def test_airflow_finds_the_provider_and_the_provider_its_files(bare: Path, tmp_path: Path) -> None:
    done = run([str(bare), "-c", FOUND], cwd=tmp_path, env=alone(tmp_path))
    folder, *counts = json.loads(done.stdout.splitlines()[-1])
    assert Path(folder).is_relative_to(bare.parents[1])
    assert all(counts)


def test_the_operator_runs(
    bare: Path,
    tmp_path: Path,
    clickhouse: ClickHouseHook,
    iceberg: IcebergTableHook,
    ledger: WatermarkHook,
    fresh_names: Callable[[str], str],
) -> None:
    name = fresh_names("wheel")
    clickhouse.execute(f"CREATE TABLE test.{name} (at DateTime64(6, 'UTC'), n UInt64) ENGINE = MergeTree ORDER BY at")
    clickhouse.execute(f"INSERT INTO test.{name} SELECT now64(6) - 10, number FROM numbers(1000)")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/wheel.py").write_text(DAG.format(name=name))
    env = alone(tmp_path)
    run([str(bare), "-m", "airflow", "db", "migrate"], cwd=tmp_path, env=env)
    run([str(bare), "-m", "airflow", "dags", "test", "wheel"], cwd=tmp_path, env=env)
    assert iceberg.load(f"cold.{name}").scan().count() == 1000
    windows = ledger.get_records("SELECT state, row_count FROM k2.windows WHERE target = %s", (f"cold.{name}",))
    assert [tuple(window) for window in windows] == [("committed", 1000)]
