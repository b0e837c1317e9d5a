"""The operators' Spark submissions under the real provider.

On YARN with its driver there, and which engine `auto` takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator
from tests.support.tasks import TaskRun

AIRFLOW_211 = os.environ.get("K2_AIRFLOW_211", "")
ROOT = Path(__file__).parents[4]


def table(world, name: str, rows: int = 5, **more: object):
    world.clickhouse.execute(f"CREATE TABLE t.{name} (seen DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY seen")
    world.clickhouse.execute(
        f"INSERT INTO t.{name} SELECT fromUnixTimestamp64Micro(1763700000000000 + number, 'UTC') FROM numbers({rows})"
    )
    return world.table(source=f"t.{name}", target=f"cold.{name}", cursor="seen", **more)


def spark_connection(monkeypatch: pytest.MonkeyPatch, host: str, **extra: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", "host": host, "extra": extra}))


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Every line about the choice of an engine."""
    return [line for line in "".join(capfd.readouterr()).splitlines() if " engine moves it: " in line]


@pytest.mark.parametrize(
    "python",
    [
        sys.executable,
        pytest.param(
            AIRFLOW_211,
            marks=pytest.mark.skipif(
                not Path(AIRFLOW_211).is_file(),
                reason="no Airflow 2.11 environment: `make test` makes it where Python 3.11 or 3.12 is there",
            ),
        ),
    ],
    ids=["airflow", "airflow-2.11"],
)
@pytest.mark.slow  # two Airflows; the operator's other tests are the short form
def test_on_yarn_every_window_is_a_submission_of_its_own(world, monkeypatch, tmp_path, python):
    properties, endpoints = world.system.seaweedfs.catalog_properties(), world.clickhouse.endpoints
    secrets = {"clickhouse.password": endpoints.password}
    secrets |= {name: value for name, value in properties.items() if name.endswith(("access-key", "access-key-id"))}
    (tmp_path / "secrets.json").write_text(json.dumps(secrets))
    spark_connection(
        monkeypatch,
        "yarn",
        **{"deploy-mode": "cluster", "secrets-file": str(tmp_path / "secrets.json"), "queue": "day"},
    )
    submit = tmp_path / "bin" / "spark-submit"
    submit.parent.mkdir()
    submit.write_text(f'#!/bin/sh\nexec "{python}" -m tests.support.yarn_submit "$@"\n')
    submit.chmod(0o755)
    entry = table(
        world,
        f"yarn_{Path(python).parts[-3].strip('.').replace('-', '_').replace('.', '_')}",
        window_rows=2,
        spark_rows=2,
    )
    told = tmp_path / "submissions"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")},
        "PATH": f"{submit.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "K2_SUBMISSIONS": str(told),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
    }
    done = subprocess.run(
        [python, "-m", "tests.support.yarn_task", json.dumps(to_entry(entry))],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["moved"]["rows"], found["moved"]["windows"], found["moved"]["engine"]) == (5, 3, "spark")
    assert (found["compared"]["equal"], found["compared"]["reader"], found["compared"]["cold_rows"]) == (
        True,
        "spark",
        5,
    )
    assert found["state"] == {}, "a driver is kept for the task, and a later window would be taken for it"
    assert set(found["attributes"].values()) == {"", None, "arrow-spark"}
    jobs = [json.loads(line) for line in told.read_text().splitlines()]
    assert len(jobs) == 4
    assert len({job["application"][1] for job in jobs}) == 4
    assert [job["queue"] for job in jobs] == ["day"] * 4
    assert jobs[0]["conf"] == ["spark.yarn.queue=night"]
    shown = done.stdout + done.stderr + told.read_text()
    assert not [value for name, value in secrets.items() if value in shown and not name.endswith("-id")]


@pytest.mark.parametrize(
    ("connection", "rows", "engine", "why"),
    [
        (
            ("spark://cluster:7077", {}),
            5,
            "spark",
            "5 rows are left, more than 4, and the Spark connection 'spark_default' "
            "(spark://cluster:7077) is configured",
        ),
        (("spark://cluster:7077", {}), 4, "direct", "4 rows are left, and Spark is worth starting from 4 on"),
        (("local[*]", {}), 5, "direct", "the Spark connection 'spark_default' has this machine only (local[*])"),
        (("yarn", {"queue": "root.default"}), 5, "direct", "the Spark connection 'spark_default' is Airflow's example"),
        (("spark://h:1", {"deploy-mode": "cluster"}), 5, "direct", "deploy mode that takes no Python"),
        (("yarn", {"spark-binary": "spark3-submit"}), 5, "direct", "spark3-submit is not on this worker's PATH"),
        (None, 5, "direct", "there is no Spark connection 'spark_default'"),
    ],
)
def test_auto_takes_what_is_configured_and_says_why(world, monkeypatch, capfd, connection, rows, engine, why):
    if connection:
        spark_connection(monkeypatch, connection[0], **connection[1])
    else:
        monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    monkeypatch.setenv("PATH", f"{world.submit.binary.parent}{os.pathsep}{os.environ['PATH']}")
    entry = world.table(source="t.x", target="cold.x", cursor="seen", spark_rows=4)
    operator = ClickHouseToIcebergOperator(task_id="offload", table=to_entry(entry))
    chosen = [operator._choose_engine(entry, rows, {}) for _ in range(2)]
    assert {one.name for one in chosen} == {engine}
    (line,) = said(capfd)
    assert f"x: the {engine} engine moves it: " in line
    assert why in line


def test_auto_decides_for_every_window(world, monkeypatch, capfd):
    """Spark takes what is worth its start of a backlog; the rest goes by the direct engine."""
    from airflow_provider_k2.engines.spark.job import Spark
    from tests.support.spark_inline import inline

    entry = table(world, "mixed", rows=11, window_rows=2, spark_rows=4)
    spark_connection(monkeypatch, "spark://cluster:7077")
    monkeypatch.setenv("PATH", f"{world.submit.binary.parent}{os.pathsep}{os.environ['PATH']}")
    operator = ClickHouseToIcebergOperator(task_id="offload", table=to_entry(entry))
    monkeypatch.setattr(operator, "_spark", lambda context: Spark(inline()))
    report = TaskRun("mixed").of(operator)
    assert (report["rows"], report["windows"]) == (11, 4)
    summaries = [snapshot.summary for snapshot in world.iceberg.load("cold.mixed").metadata.snapshots]
    assert [(summary["k2.engine"], summary["k2.rows"]) for summary in summaries] == [
        ("spark", "4"),
        ("spark", "4"),
        ("direct", "2"),
        ("direct", "1"),
    ]
    assert len(said(capfd)) == 2


def test_a_standalone_master_takes_no_driver_in_python(world, monkeypatch):
    from airflow_provider_k2.exceptions import ServiceError

    entry = table(world, "refused")
    spark_connection(monkeypatch, "spark://cluster:7077", **{"deploy-mode": "cluster"})
    operator = ClickHouseToIcebergOperator(task_id="offload", table=to_entry(entry), engine="spark")
    with pytest.raises(
        ServiceError, match=r"standalone master takes no Python application. Nothing was moved; set `\"deploy-mode\""
    ):
        TaskRun("refused").of(operator)
