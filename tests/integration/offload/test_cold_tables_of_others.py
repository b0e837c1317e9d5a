"""Cold tables that somebody else has made: other properties, formats, catalogs, and pipelines beside ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType

from airflow_provider_k2.exceptions import IdentityError, ReplacedByLessError, ServiceError, TypePlanError
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from tests.integration.tables import Tiers

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = Schema(
    NestedField(1, "n", LongType(), required=False),
    NestedField(2, "at", TimestamptzType(), required=False),
    NestedField(3, "symbol", StringType(), required=False),
)
BY_SYMBOL = PartitionSpec(PartitionField(3, 1000, IdentityTransform(), "symbol"))
NAMES = "schema.name-mapping.default"


@pytest.fixture
def own_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IcebergTableHook:
    """A SQL catalog with its warehouse on disk.

    It adds nothing to a table's properties, as SeaweedFS's catalog does.
    """
    connection = {
        "conn_type": "iceberg",
        "host": f"sqlite:///{tmp_path}/catalog.db",
        "extra": {"type": "sql", "warehouse": f"file://{tmp_path}/warehouse"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_SQL", json.dumps(connection))
    hook = IcebergTableHook("iceberg_sql")
    hook.catalog.create_namespace("cold")
    return hook


@pytest.fixture
def foreign(clickhouse: Any, ledger: Any, own_catalog: IcebergTableHook, fresh_names: Any) -> Any:
    """Make a warm table and, before its first offload, the cold one with properties of somebody else."""

    def make(spec: PartitionSpec | None = None, **properties: str) -> Tiers:
        table = Tiers(clickhouse, own_catalog, ledger, fresh_names("foreign"))
        given = {name.replace("__", ".").replace("_", "-"): value for name, value in properties.items()}
        own_catalog.catalog.create_table(
            f"cold.{table.name}", SCHEMA, partition_spec=spec or PartitionSpec(), properties=given
        )
        return table

    return make


def test_a_table_of_our_own_in_a_sql_catalog(clickhouse, ledger, own_catalog, fresh_names):
    table = Tiers(clickhouse, own_catalog, ledger, fresh_names("foreign"))
    for numbers in (range(5), range(5, 9)):
        table.insert(*numbers)
        table.offload()
        table.assert_same()


@pytest.mark.parametrize(
    "mapping",
    ["", '[{"names": ["n"], "field-id": 1}, {"names": ["symbol"], "field-id": 2}]'],
    ids=["none", "symbol stands for another column, and at for none"],
)
def test_columns_are_found_whatever_a_name_mapping_says(foreign, mapping):
    """Files have field ids of their own: no property of the table is needed, nor changed."""
    table = foreign()
    if mapping:
        with table.cold.transaction() as change:
            change.set_properties({NAMES: mapping})
    table.insert(*range(5))
    table.offload()
    assert table.cold.properties.get(NAMES, "") == mapping
    table.assert_same()
    table.insert(5)
    table.offload()
    table.assert_same()


@pytest.mark.parametrize("mode", ["none", "counts", "full"])
def test_partitions_are_right_whatever_statistics_a_table_keeps(foreign, mode):
    table = foreign(BY_SYMBOL, write__metadata__metrics__default=mode)
    table.insert(*range(5), symbol="BTC")
    table.insert(*range(5, 9), symbol="ETH")
    table.offload()
    table.assert_same()
    assert table.cold.scan("symbol = 'BTC'").count() == 5
    assert table.cold.scan("symbol = 'ETH'").count() == 4
    bounds = [bool(file["lower_bounds"]) for file in table.cold.inspect.files().to_pylist()]
    assert len(bounds) == 2
    # A part of a file is taken out and written again.
    table.insert(3, symbol="BTC")
    table.offload(window=_window(2, 6), kind="backfill")
    table.assert_same()
    assert table.cold.scan("symbol = 'BTC'").count() == 6


@pytest.mark.parametrize(
    ("version", "fix"), [("1", "ALTER TABLE cold.{} SET TBLPROPERTIES"), ("3", "copy it to a table")]
)
def test_another_format_version_is_refused_before_anything_is_written(foreign, version, fix, tmp_path):
    table = foreign(format_version=version) if version == "1" else None
    if table is None:
        table = foreign()
        # pyiceberg reads version 3 and makes none: the table is made to look like one.
        metadata = table.cold.metadata_location.removeprefix("file://")
        with open(metadata, encoding="utf-8") as file:
            document = json.load(file)
        with open(metadata, "w", encoding="utf-8") as file:
            json.dump({**document, "format-version": 3, "next-row-id": 0}, file)
    table.insert(1)
    with pytest.raises(
        TypePlanError, match=f"has format version {version}, and version 2 is needed. Nothing was moved"
    ) as told:
        table.offload()
    assert fix.format(table.name) in str(told.value)
    assert not list(tmp_path.glob("warehouse/**/*.parquet"))


def test_a_partition_column_that_stays_warm_is_refused(foreign):
    table = foreign(BY_SYMBOL)
    table.entry = {"exclude": ["symbol"]}
    table.insert(1)
    with pytest.raises(TypePlanError, match=r"partitioned by symbol, which does not go cold. Nothing was moved"):
        table.offload()


def test_another_source_of_another_pipeline_is_refused(tiers, fresh_names):
    """Each window would take the other's rows out: they lie in its cursor range and are not its own."""
    table = tiers()
    table.insert(*range(5))
    table.offload()
    other = tiers(pipeline="other", target=f"cold.{table.name}")
    other.insert(*range(3, 9), symbol="ETH")
    with pytest.raises(
        IdentityError, match=rf"holds rows of pipeline 'k2', .*\(test.{table.name}\).*Nothing was committed"
    ):
        other.offload()
    table.assert_same()
    # What the message says fixes it.
    with table.cold.manage_snapshots() as change:
        change.remove_tag("k2-k2-last-window")
    other.sql("INSERT INTO {t} SELECT number, now64(6), 'ETH' FROM numbers(3)")
    with pytest.raises(ReplacedByLessError, match="of which 5 are not in the warm tier"):
        other.offload()
    assert other.offload(keep=True).rows == 9


def test_a_catalog_that_refuses_a_commit_is_asked_once(tiers, monkeypatch, caplog):
    """A missing permission is no conflict: nobody should look for other writers."""
    from pyiceberg.exceptions import ForbiddenError

    table = tiers()
    table.insert(1)
    table.offload()
    table.insert(2)
    asked = []

    def refuse(*_: Any) -> None:
        asked.append(1)
        raise ForbiddenError("no right to commit")

    # A mock: the catalog at hand has one user, who may do everything.
    monkeypatch.setattr(type(table.iceberg.catalog), "commit_table", refuse)
    with pytest.raises(
        ServiceError,
        match=r"does not allow it: ForbiddenError.*when window .* was committed.*give the connection's user the right",
    ):
        table.offload()
    monkeypatch.undo()
    assert len(asked) == 1
    assert table.cold_numbers() == [1]
    table.offload()
    table.assert_same()


def _window(lower: int, upper: int) -> Any:
    from airflow_provider_k2.windows import Window

    return Window(lower, upper)
