"""Cold tables as other engines read them.

By the field ids of the files, after columns came, went, were renamed and widened.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pyiceberg.types import LongType

from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from tests.integration.tables import Tiers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLUMNS = (
    "(n Int64, price Decimal(18, 8), gone String, small Int32, ratio Float32, at DateTime64(6, 'UTC'), "
    "tags Array(Nullable(String)), counts Array(Int32), notes Map(String, Array(Int32)), "
    "id UUID, flag Nullable(Bool), day Date, side Enum8('BUY' = 1)) "
    "ENGINE = MergeTree ORDER BY n"
)
ROW = (
    "number, number + 0.5, 'g', number, 0.25, toDateTime64('2026-11-25 00:00:00', 6, 'UTC') + number, ['a', NULL], "
    "[1, number], map('k', [number]), toUUID('de02abc4-ba32-49dc-aa17-d7d67dedf381'), NULL, '2026-11-25', 'BUY'"
)
NAMES = "schema.name-mapping.default"


def read_pyiceberg(table: Any) -> Any:
    return table.scan().to_arrow()


def read_duckdb(table: Any) -> Any:
    import duckdb
    from duckdb_extensions import import_extension

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for extension in ("avro", "iceberg"):
        import_extension(extension, con=connection)
    location = table.metadata_location.removeprefix("file://")
    return connection.sql(f"SELECT * FROM iceberg_scan('{location}')").to_arrow_table()


def read_polars(table: Any) -> Any:
    import polars

    return polars.scan_iceberg(table, reader_override="native").collect().to_arrow()


def read_clickhouse(table: Any) -> Any:
    """The engine in this process: the server's files are elsewhere."""
    import subprocess
    import sys

    import pyarrow as pa

    path = table.location().removeprefix("file://")
    code = "import chdb, sys; sys.stdout.buffer.write(chdb.query(sys.argv[1], 'ArrowStream').bytes())"
    # It reads what is below its own folder.
    query = f"SELECT * FROM icebergLocal('{path}')"
    done = subprocess.run([sys.executable, "-c", code, query], cwd=path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return pa.ipc.open_stream(done.stdout).read_all()


READERS: dict[str, Callable[[Any], Any]] = {
    "pyiceberg": read_pyiceberg,
    "duckdb": read_duckdb,
    "polars": read_polars,
    "clickhouse": read_clickhouse,
}

SPARK_JOB = """
import json, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
for path in sys.argv[1:]:
    rows = spark.read.format("iceberg").load(path).orderBy("n").toJSON().collect()
    print("ROWS " + json.dumps([json.loads(row) for row in rows]))
"""


@pytest.fixture
def lake(clickhouse: Any, ledger: Any, fresh_names: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiers:
    """A table with three cold rows, in a catalog whose files lie on disk: every engine finds them."""
    connection = {
        "conn_type": "iceberg",
        "host": f"sqlite:///{tmp_path}/catalog.db",
        "extra": {"type": "sql", "warehouse": f"file://{tmp_path}/warehouse"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_SQL", json.dumps(connection))
    hook = IcebergTableHook("iceberg_sql")
    hook.catalog.create_namespace("cold")
    table = Tiers(clickhouse, hook, ledger, fresh_names("read"), columns=COLUMNS)
    table.sql(f"INSERT INTO {{t}} SELECT {ROW} FROM numbers(3)")
    table.offload()
    return table


def change(table: Tiers) -> None:
    """Columns come, go, are renamed and widened, and more rows follow."""
    with table.cold.update_schema(allow_incompatible_changes=True) as update:
        update.rename_column("price", "cost")
        update.delete_column("gone")
    table.sql(
        "ALTER TABLE {t} DROP COLUMN gone, DROP COLUMN price, ADD COLUMN cost Decimal(18, 8) DEFAULT 7, "
        "ADD COLUMN `new` Nullable(String), "
        "MODIFY COLUMN small Int64, MODIFY COLUMN ratio Float64, MODIFY COLUMN counts Array(Int64), "
        "MODIFY COLUMN notes Map(String, Array(Int64)), MODIFY COLUMN side String"
    )
    table.sql(
        "INSERT INTO {t} SELECT number, 9000000000, 0.1, toDateTime64('2026-11-25 00:00:00', 6, 'UTC') + number, "
        "['b'], "
        "[9000000000], map('z', [9000000000]), generateUUIDv4(), true, '2026-11-26', 'SELL', 8.25, 'x' FROM "
        "numbers(3, 2)"
    )
    table.offload()


def expected() -> dict[int, dict[str, Any]]:
    old = {
        "cost": 0.5,
        "small": 0,
        "ratio": 0.25,
        "counts": [1, 0],
        "notes": {"k": [0]},
        "tags": ["a", None],
        "side": "BUY",
        "new": None,
        "flag": None,
    }
    new = {
        "cost": 8.25,
        "small": 9_000_000_000,
        "ratio": 0.1,
        "counts": [9_000_000_000],
        "notes": {"z": [9_000_000_000]},
        "tags": ["b"],
        "side": "SELL",
        "new": "x",
        "flag": True,
    }
    rows = {n: {**old, "cost": n + 0.5, "small": n, "counts": [1, n], "notes": {"k": [n]}} for n in range(3)}
    return {**rows, 3: new, 4: new}


def checked(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Rows of any reader by their cursor, in one form."""
    found = {}
    for row in rows:
        values = {name: row.get(name) for name in expected()[3]}
        values["cost"], values["ratio"] = float(values["cost"]), round(values["ratio"], 6)
        values["notes"] = dict(values["notes"])
        found[row["n"]] = values
        assert "price" not in row
    return found


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_finds_every_column(lake: Tiers, reader: str) -> None:
    assert len(READERS[reader](lake.cold).to_pylist()[0]) == 13
    change(lake)
    assert NAMES not in lake.cold.properties
    rows = READERS[reader](lake.cold).to_pylist()
    assert checked(rows) == expected()
    assert "gone" not in rows[0]


@pytest.mark.parametrize("reader", ["pyiceberg", "duckdb", "clickhouse"])
def test_files_without_ids_are_read_by_the_name_mapping(
    clickhouse: Any, lake: Tiers, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """What older versions of this provider have written.

    It stays beside new files, in a table that has the property.
    """
    from airflow_provider_k2.engines import parquet_footer

    with lake.cold.transaction() as transaction:
        transaction.set_properties({NAMES: lake.cold.schema().name_mapping.model_dump_json()})
    monkeypatch.setattr(parquet_footer, "with_field_ids", lambda footer, schema: footer)
    lake.sql(f"INSERT INTO {{t}} SELECT {ROW} FROM numbers(3, 2)")
    lake.offload()
    monkeypatch.undo()
    lake.sql(f"INSERT INTO {{t}} SELECT {ROW} FROM numbers(5, 2)")
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_SQL", "unused: the hook is connected")
    lake.offload()
    rows = READERS[reader](lake.cold).to_pylist()
    assert sorted((row["n"], row["gone"], row["side"]) for row in rows) == [(n, "g", "BUY") for n in range(7)]


@pytest.mark.slow
def test_spark_finds_every_column(lake: Tiers, tmp_path: Path) -> None:
    import os
    import subprocess
    from pathlib import Path as RealPath

    from airflow_provider_k2.local import ensure_spark

    spark = RealPath(os.environ.get("K2_TEST_SPARK", RealPath(__file__).parents[2] / ".k2" / "spark"))
    submit = ensure_spark(spark, jars=True)
    before = lake.cold.metadata_location
    change(lake)
    job = tmp_path / "job.py"
    job.write_text(SPARK_JOB)
    done = subprocess.run(
        [submit, "--master", "local[1]", job, before, lake.cold.metadata_location],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    first, second = (json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("ROWS "))
    assert [row["gone"] for row in first] == ["g"] * 3
    assert checked(second) == expected()


def test_a_nested_widening_is_one_of_the_element(lake: Tiers) -> None:
    change(lake)
    assert isinstance(lake.cold.schema().find_field("counts.element").field_type, LongType)
    assert isinstance(lake.cold.schema().find_field("notes.value.element").field_type, LongType)
    lake.offload(window=_window(1, 3), kind="backfill", force=True)  # a part of an old file is written anew
    assert {row["n"] for row in lake.cold.scan().to_arrow().to_pylist()} == set(range(5))


def _window(lower: int, upper: int) -> Any:
    from airflow_provider_k2.windows import Window

    return Window(lower, upper)
