"""Writing a file needs nothing of Airflow, and what goes in and comes out travels to another machine."""

import pickle
import subprocess
import sys

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

from airflow_provider_k2.engines.files import FilePiece, FileTarget, WrittenFile
from airflow_provider_k2.tables.model import PartitionField


def test_no_module_of_airflow_is_imported():
    script = (
        "import sys; import airflow_provider_k2.engines.files, airflow_provider_k2.clickhouse.http; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('airflow', 'clickhouse_driver', "
        "'psycopg', 'chdb')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_descriptions_and_results_can_be_pickled():
    schema = Schema(NestedField(1, "n", LongType()))
    metadata = new_table_metadata(schema, PartitionSpec(), UNSORTED_SORT_ORDER, "s3://lake/t", {"a": "b"})
    target = FileTarget("t", "[1, 2)", metadata, (PartitionField("day", "n"),), (("n", "long"),), ())
    piece = FilePiece("s3://lake/t/data/1.parquet", "SELECT 1", (None,))
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=piece.path,
        file_format=FileFormat.PARQUET,
        partition=Record(19_000),
        record_count=7,
        file_size_in_bytes=99,
        lower_bounds={1: b"\x00"},
        upper_bounds={1: b"\xff"},
    )
    written = WrittenFile(piece.path, data_file, 7, 2**64 - 1, 0.5, 0.25)
    for value in (target, piece, written):
        assert pickle.loads(pickle.dumps(value)) == value
