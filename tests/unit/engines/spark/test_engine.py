"""The Spark engine's pure parts: what travels, what is kept out of sight, when a driver gives up."""

import fcntl
import json
import os
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField as SpecField
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from airflow_provider_k2.clickhouse.http import Endpoints, HttpClient
from airflow_provider_k2.engines.files import FilePiece, FileTarget, WrittenFile
from airflow_provider_k2.engines.progress import EVERY, Progress
from airflow_provider_k2.engines.spark import driver, job, tasks, wire
from airflow_provider_k2.engines.spark.access import (
    fill_in,
    redact,
    secrets_of,
    source_access,
    split_secrets,
    storage_access,
)
from airflow_provider_k2.tables.model import PartitionField

ROOT = Path(__file__).parents[4]


# What travels
# -----------------------------------------------------------------------------------------------------------


def table_metadata():
    kinds = (
        LongType(),
        DateType(),
        StringType(),
        DecimalType(38, 8),
        BinaryType(),
        BooleanType(),
        TimestamptzType(),
        DoubleType(),
        FixedType(3),
        IntegerType(),
    )
    schema = Schema(*(NestedField(number, f"c{number}", kind) for number, kind in enumerate(kinds, 1)))
    fields = [SpecField(number, 999 + number, IdentityTransform(), f"p{number}") for number in range(1, 11)]
    fields.append(SpecField(7, 1010, DayTransform(), "day"))
    return new_table_metadata(schema, PartitionSpec(*fields), UNSORTED_SORT_ORDER, "s3://lake/t", {"a": "b"})


def test_files_come_back_as_they_were():
    from decimal import Decimal

    metadata = table_metadata()
    values = (
        -5,
        19_000,
        "ä/€",
        Decimal("-1.00000001"),
        b"\xff\x00",
        True,
        1_763_700_000_000_000,
        -0.5,
        b"abc",
        7,
        20_413,
    )
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path="s3://lake/t/data/1.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(*values),
        record_count=7,
        file_size_in_bytes=99,
        column_sizes={1: 10},
        value_counts={1: 7},
        null_value_counts={1: 0},
        nan_value_counts={},
        lower_bounds={1: b"\x00"},
        upper_bounds={1: b"\xff"},
        key_metadata=None,
        split_offsets=[4],
        equality_ids=None,
        sort_order_id=None,
    )
    written = WrittenFile(data_file.file_path, data_file, 7, 2**64 - 1, 0.5, 0.25)
    packed = json.loads(json.dumps(wire.pack_written(written, metadata)))
    back = wire.unpack_written(packed, wire.unpack_metadata(wire.pack_metadata(metadata)))
    assert back.data_file._data == data_file._data
    assert (back.rows, back.checksum, back.path) == (7, 2**64 - 1, data_file.file_path)
    empty = DataFile.from_args(**{"file_path": "x", "content": DataFileContent.DATA, "partition": Record(*[None] * 11)})
    kinds = wire.partition_type(metadata)
    assert wire.unpack_file(json.loads(json.dumps(wire.pack_file(empty, kinds))), kinds).partition == empty.partition


def test_what_tasks_are_told_comes_back_as_it_was():
    metadata = table_metadata()
    target = FileTarget("t", "[1, 2)", metadata, (PartitionField("day", "c7"),), (("c3", "string"),), ("c3",))
    back = wire.unpack_target(json.loads(json.dumps(wire.pack_target(target))))
    assert back == target
    piece = FilePiece("s3://lake/t/data/1.parquet", "SELECT 'ä'", (None, "x"))
    assert wire.unpack_piece(json.loads(json.dumps(wire.pack_piece(piece)))) == piece


def test_a_tables_history_does_not_travel():
    from pyiceberg.table.snapshots import Snapshot

    snapshot = Snapshot(snapshot_id=5, sequence_number=1, timestamp_ms=1, manifest_list="x", summary=None, schema_id=0)
    metadata = table_metadata()
    long = metadata.model_copy(update={"snapshots": [snapshot] * 1000, "current_snapshot_id": 5})
    assert len(wire.pack_metadata(long)) == len(wire.pack_metadata(metadata))
    assert wire.unpack_metadata(wire.pack_metadata(long)).schema() == metadata.schema()


def test_the_package_travels_without_what_needs_airflow(tmp_path):
    job._zip_package(tmp_path / "package.zip")
    names = zipfile.ZipFile(tmp_path / "package.zip").namelist()
    assert "airflow_provider_k2/engines/spark/driver.py" in names
    assert not [name for name in names if name.split("/")[1] in ("hooks", "operators", "local", "cli")]
    assert sum(map(len, map(zipfile.ZipFile(tmp_path / "package.zip").read, names))) < 2**20
    # What a driver and its tasks import is in there.
    script = (
        "import airflow_provider_k2.engines.spark.driver, airflow_provider_k2.reconciliation.spark_side, "
        "airflow_provider_k2.engines.files, airflow_provider_k2.engines.spark.wire as m; print(m.__file__)"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r}); {script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().startswith(str(tmp_path))


def test_a_users_options_for_java_stay(monkeypatch):
    monkeypatch.delenv("SPARK_SUBMIT_OPTS", raising=False)
    assert job._driver_environment()["SPARK_SUBMIT_OPTS"] == "-XX:TieredStopAtLevel=1"
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-Djavax.net.ssl.trustStorePassword=x")
    assert "SPARK_SUBMIT_OPTS" not in job._driver_environment()


def test_executors_need_what_the_package_needs_and_no_more():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    oldest = dict(text.split(">=")[:2] for text in wanted if ">=" in text)
    for name, release in tasks.PACKAGES.items():
        declared = oldest.get(name) or oldest.get(f"{name}[pyarrow,pyiceberg-core]")
        # pyarrow comes with pyiceberg.
        assert declared is None or declared.split(",")[0] == release, name
    from airflow_provider_k2.local import versions

    assert {text.split(">=")[0].split("==")[0] for text in versions.SPARK_PACKAGES} == set(tasks.PACKAGES)


def test_a_machine_that_lacks_something_is_named(monkeypatch):
    found = {"numpy": "1.25.2", "pyarrow": "17.0.0", "pyiceberg": "0.12.0", "requests": "2.31", "xxhash": "3.4"}
    monkeypatch.setattr(tasks.metadata, "version", found.__getitem__)
    assert tasks._lacking.__wrapped__((3, 10)) == (
        "its Python is 3.10, and 3.11 is needed",
        "numpy is 1.25.2, and 1.26 or newer is needed",
    )
    found["numpy"] = "2.0.0rc1"
    assert tasks._lacking.__wrapped__((3, 13)) == ()


# What is kept out of sight
# ----------------------------------------------------------------------------------------------


def storage(**properties: str):
    return storage_access(SimpleNamespace(properties=properties), "s3://lake/t")


def test_a_catalogs_own_credentials_stay_with_the_worker():
    given = {
        "uri": "postgresql://me:p4ssw0rd@db/cat",
        "token": "t0ken",
        "credential": "cred3ntial",
        "header.Authorization": "h3ader",
        "warehouse": "s3://lake",
        "s3.endpoint": "http://s3",
        "s3.region": "eu-west-1",
        "s3.access-key-id": "AKIA12345",
        "s3.secret-access-key": "s3cret",
        "client.secret-access-key": "s3cret",
        "s3.path-style-access": "true",
    }
    access = storage(**given)
    assert set(access["io"]) == {name for name in given if name.startswith(("s3.", "client."))}
    text = json.dumps(access)
    assert not [word for word in ("p4ssw0rd", "t0ken", "cred3ntial", "h3ader") if word in text]
    assert secrets_of(access) == ["AKIA12345", "s3cret"]


def test_no_error_shows_a_secret():
    endpoints = Endpoints("ch", 9000, 8123, "me", "pa55word", "k2")
    access = {**storage(**{"s3.secret-access-key": "s3cret-long"}), **source_access(HttpClient(endpoints, "c"))}
    shown = redact("pa55word, bWU6cGE1NXdvcmQ=, s3cret-long at http://ch", access)
    assert shown == "***, ***, *** at http://ch"


def test_secrets_that_are_on_the_drivers_machine_do_not_travel(tmp_path):
    endpoints = Endpoints("ch", 9000, 8123, "me", "pa55word", "k2")
    access = {
        **storage(**{"s3.secret-access-key": "s3cret-long", "s3.endpoint": "http://s"}),
        **source_access(HttpClient(endpoints, "c")),
    }
    kept, secrets = split_secrets(access)
    assert "pa55word" not in json.dumps(kept)
    assert "s3cret" not in json.dumps(kept)
    assert kept["io"] == {"s3.endpoint": "http://s"}
    assert secrets == {"clickhouse.password": "pa55word", "s3.secret-access-key": "s3cret-long"}
    assert fill_in(kept, secrets) == access


# The driver
# -------------------------------------------------------------------------------------------------------------


def test_a_driver_knows_whether_its_worker_lives(tmp_path):
    lock = tmp_path / "alive"
    assert not driver.worker_is_gone(None)
    assert driver.worker_is_gone(str(lock)), "the worker has cleaned up"
    held = os.open(lock, os.O_CREAT | os.O_WRONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert not driver.worker_is_gone(str(lock))
    os.close(held)
    assert driver.worker_is_gone(str(lock))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            Exception(f'PythonException: ...\nTaskError: {tasks.MARK}{{"host": "h", "message": "it broke"}}\n\tat x'),
            "it broke",
        ),
        (ValueError("one\ntwo"), "ValueError: one"),
        (RuntimeError(""), "RuntimeError: "),
    ],
)
def test_a_failure_becomes_one_line(error, words):
    assert driver.one_line(error) == words


def test_progress_is_told_now_and_then(monkeypatch):
    lines: list[str] = []
    now = 1000.0
    monkeypatch.setattr("airflow_provider_k2.engines.progress.time.monotonic", lambda: now)
    progress = Progress("trades", 2_000, lines.append)
    progress.add(sent=1_500_000)
    assert lines == []
    now += EVERY
    progress.add(proven=500)
    progress.add(proven=500)
    now += EVERY
    progress.add()
    assert lines == [
        "trades: 500 of 2,000 rows are written and proven (25 %, 50 rows/s), 1.5 MB are sent.",
        "trades: 1,000 of 2,000 rows are written and proven (50 %, 50 rows/s), 1.5 MB are sent.",
    ]
