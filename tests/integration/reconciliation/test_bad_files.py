"""Files of the cold table that are missing, damaged or described wrongly: named, and put right from the warm tier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pyiceberg.manifest import DataFile
from pyiceberg.typedef import Record

from airflow_provider_k2.commit import expiry
from airflow_provider_k2.exceptions import ServiceError
from airflow_provider_k2.reconciliation.buckets import Status
from airflow_provider_k2.retention.gate import DeletionGate
from airflow_provider_k2.tables.model import RetentionPolicy
from airflow_provider_k2.windows import SECOND, Window
from tests.integration.pair import DAY, HOUR, Pair
from tests.integration.retention.support import ago

DAYS = (9, 8, 2)


@pytest.fixture(params=["append", "upsert"])
def pair(request, clickhouse, iceberg, ledger, fresh_names):
    """Rows of three days, each a file of its own."""
    made = Pair(
        clickhouse,
        iceberg,
        ledger,
        fresh_names("bad"),
        request.param,
        "PARTITION BY toDate(arrived, 'UTC')",
        {"partition": ["day(at)"]},
    )
    for day in DAYS:
        made.insert(24, ago(day), HOUR)
    made.offload()
    return made


def files(pair: Pair) -> list[DataFile]:
    """The cold files, oldest rows first."""
    found = [task.file for task in pair.cold.scan().plan_files()]
    return sorted(found, key=lambda one: one.partition[0])


def remove(pair: Pair, file: DataFile) -> None:
    pair.cold.io.delete(file.file_path)


def rewrite(pair: Pair, file: DataFile, alter: Any) -> None:
    io = pair.cold.io
    with io.new_input(file.file_path).open() as stream:
        whole = stream.read()
    with io.new_output(file.file_path).create(overwrite=True) as stream:
        stream.write(alter(whole))


def _flip(whole: bytes) -> bytes:
    """One bit within the data of the first column's page."""
    import io

    import pyarrow.parquet as pq

    column = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(0).column(1)
    place = column.data_page_offset + column.total_compressed_size - 2
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


HARMS = {
    "missing": None,
    "cut": lambda whole: whole[:-20],
    "empty": lambda whole: b"",
    "no Parquet": lambda whole: b"x" * len(whole),
    "a broken footer": lambda whole: whole[:-200] + b"\xff" * 192 + whole[-8:],
    "a flipped bit": _flip,
}


def harm(pair: Pair, file: DataFile, how: str) -> None:
    if how == "missing":
        remove(pair, file)
    else:
        rewrite(pair, file, HARMS[how])


@pytest.mark.parametrize("how", HARMS)
def test_a_dead_file_is_named_and_the_others_are_read(pair, how):
    dead = files(pair)[1]
    harm(pair, dead, how)
    verdict = pair.verify()
    assert not verdict.equal
    (bad,) = verdict.files
    assert (bad.path, bad.rows, bad.dead) == (dead.file_path, 24, True)
    assert ("missing" if how == "missing" else "damaged") in bad.why
    assert bad.window_id == pair.ledger.history(pair.config)[0].window_id
    assert (bad.lower, bad.upper) == (ago(8), ago(8) + 23 * HOUR + 1)
    assert [bucket.status for bucket in verdict.buckets] == [Status.EQUAL, Status.DIFFERS, Status.EQUAL]
    assert "1 cold file is missing or damaged (24 rows)" in verdict.verdict
    assert any(dead.file_path in note for note in verdict.notes)


@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_repair_moves_the_range_of_a_dead_file_again_in_one_commit(pair, how):
    for place in (0, 1):
        harm(pair, files(pair)[place], how)
    before = len(pair.cold.metadata.snapshots)
    done = pair.repair(pair.verify())
    assert done.refused == []
    verdict = pair.verify()
    assert verdict.equal, verdict
    assert pair.cold.scan().count() == 72
    assert len(pair.cold.metadata.snapshots) - before == len(done.reports) == (2 if pair.mode == "append" else 1)


def test_a_dead_file_without_its_warm_rows_is_refused_until_it_is_restored(pair):
    dead = files(pair)[1]
    with pair.cold.io.new_input(dead.file_path).open() as stream:
        backup = stream.read()
    remove(pair, dead)
    first, last = (f"fromUnixTimestamp64Micro({at}, 'UTC')" for at in (ago(8), ago(8) + 5 * HOUR))
    pair.sql(f"DELETE FROM {{t}} WHERE arrived >= {first} AND arrived < {last}")
    done = pair.repair(pair.verify())
    assert done.reports == []
    (refused,) = done.refused
    for words in (
        dead.file_path,
        "24 rows cannot be read",
        "5 rows are lost with them",
        "restore the file from a backup",
    ):
        assert words in refused
    assert "--force" not in refused
    with pair.cold.io.new_output(dead.file_path).create(overwrite=True) as stream:
        stream.write(backup)
    verdict = pair.verify()
    assert verdict.files == ()
    assert pair.cold.scan().count() == 72
    remove(pair, dead)
    done = pair.repair(pair.verify(), force=True)
    assert done.refused == []
    assert pair.cold.scan().count() == 67
    assert pair.verify().equal


def test_new_rows_do_not_hide_that_the_rows_of_a_dead_file_are_gone(pair):
    """The counts would do: as many other rows have come, of which nobody can say that they are not those."""
    dead = files(pair)[1]
    remove(pair, dead)
    begin = ago(8)
    day = f"toDate(fromUnixTimestamp64Micro({begin}, 'UTC'), 'UTC')"
    partition = pair.sql(f"SELECT DISTINCT _partition_id FROM {{t}} WHERE toDate(arrived, 'UTC') = {day}")[0][0]
    pair.sql(f"ALTER TABLE {{t}} DROP PARTITION ID '{partition}'")
    pair.insert(48, begin + 1, HOUR // 2)
    with pair.ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) VALUES "
            "('gate', 'retention', 'k2', %s, %s, %s, 'dropped')",
            (pair.config.target, begin, begin + DAY),
        )
    done = pair.repair(pair.verify())
    assert done.reports == []
    assert "which need not be the same ones" in done.refused[0]


@pytest.mark.parametrize("expired", [False, True], ids=["its snapshot is there", "its snapshot is expired"])
def test_a_window_whose_rows_are_all_there_is_known_by_its_checksum_though_rows_may_be_gone(pair, expired, monkeypatch):
    """A TTL that may have deleted rows of the range has not."""
    if pair.mode == "upsert":
        pytest.xfail("keys have no checksum of their own")
    rows = 72
    if expired:
        monkeypatch.setattr(expiry, "KEEP", 1)
        monkeypatch.setattr(expiry, "BATCH", 1)
        monkeypatch.setattr(expiry, "AGE_MS", -1)
        first = pair.cold.metadata.current_snapshot_id
        for hour in (1, 2):
            pair.insert(2, ago(1) + hour * HOUR, SECOND, arrived=pair.clickhouse.now())
            pair.offload()
        assert pair.cold.metadata.snapshot_by_id(first) is None
        rows += 4
    pair.sql(
        "ALTER TABLE {t} MODIFY TTL toDateTime(arrived, 'UTC') + INTERVAL 1 DAY SETTINGS "
        "materialize_ttl_after_modify = 0"
    )
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    remove(pair, files(pair)[2])
    pair.repair(pair.verify())
    assert pair.cold.scan().count() == rows


def test_a_store_that_does_not_answer_is_no_dead_file(pair, monkeypatch):
    from pyiceberg.io.pyarrow import PyArrowFile

    def silent(self, *args, **options):
        raise OSError("When reading information for key: AWS Error NETWORK_CONNECTION: connection refused")

    monkeypatch.setattr(PyArrowFile, "open", silent)
    monkeypatch.setattr(PyArrowFile, "exists", silent)
    with pytest.raises(ServiceError, match=rf"{pair.name}: the cold table.s storage cannot be reached"):
        pair.verify()


@pytest.mark.parametrize("what", ["manifest list", "manifest"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_manifest_that_is_lost_is_named(pair, what, how):
    snapshot = pair.cold.current_snapshot()
    path = snapshot.manifest_list if what == "manifest list" else snapshot.manifests(pair.cold.io)[0].manifest_path
    if how == "missing":
        pair.cold.io.delete(path)
    else:
        with pair.cold.io.new_output(path).create(overwrite=True) as stream:
            stream.write(b"Obj\x01 nothing")
    with pytest.raises(ServiceError) as caught:
        pair.verify()
    said = str(caught.value)
    assert f"{pair.name}: {path}, " in said
    assert f"is {how}" in said
    assert "roll the table back" in said


def test_a_window_that_touches_a_dead_file_says_what_to_do(pair):
    dead = files(pair)[1]
    remove(pair, dead)
    before = pair.cold.metadata.current_snapshot_id
    with pytest.raises(ServiceError) as caught:
        pair.offload(window=Window(ago(8), ago(7)), kind="backfill")
    assert f"{pair.name}: " in str(caught.value)
    assert f"`k2 verify {pair.name}` names the files" in str(caught.value)
    assert pair.cold.metadata.current_snapshot_id == before


@pytest.mark.parametrize("what", ["dead", "described wrongly"])
def test_the_gate_keeps_the_rows_of_a_file_that_is_no_proof(pair, what):
    file = files(pair)[0]
    if what == "dead":
        remove(pair, file)
    else:
        redescribe(pair, file, partition=Record(file.partition[0] - 3))
    table = replace(pair.config, retention=RetentionPolicy(keep=DAY // SECOND, column="arrived"))
    report = DeletionGate(pair.services).run(table, run_id="test", holder="test")
    assert file.file_path in report.kept[0].why or (pair.mode, what) == ("upsert", "described wrongly"), report
    assert pair.sql(f"SELECT count() FROM {{t}} WHERE arrived < fromUnixTimestamp64Micro({ago(8)}, 'UTC')")[0][0] == 24


def test_a_file_that_was_rewritten_and_expired_meanwhile_is_no_dead_one(pair, monkeypatch):
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook

    old = pair.cold
    dead = files(pair)[0]
    rows = old.scan().to_arrow()
    old.overwrite(rows)
    remove(pair, dead)
    load = IcebergTableHook.load
    stale = type(pair.cold)(old.name(), _older(pair), old.metadata_location, old.io, old.catalog)
    monkeypatch.setattr(IcebergTableHook, "load", lambda self, target: stale)
    with pytest.raises(ServiceError, match="does not need it any more"):
        pair.verify()
    monkeypatch.setattr(IcebergTableHook, "load", load)
    assert pair.verify().equal


def _older(pair: Pair) -> Any:
    """The table's metadata as of its first snapshot."""
    metadata = pair.cold.metadata
    first = metadata.snapshots[0].snapshot_id
    refs = {name: ref.model_copy(update={"snapshot_id": first}) for name, ref in metadata.refs.items()}
    return metadata.model_copy(update={"current_snapshot_id": first, "refs": refs})


# Files that are described wrongly
# ----------------------------------------------------------------------------------------


def redescribe(pair: Pair, file: DataFile, **changes: Any) -> None:
    """Commit a file's manifest entry again with other values, as another program may write it."""
    names = (
        "content",
        "file_path",
        "file_format",
        "partition",
        "record_count",
        "file_size_in_bytes",
        "column_sizes",
        "value_counts",
        "null_value_counts",
        "nan_value_counts",
        "lower_bounds",
        "upper_bounds",
        "key_metadata",
        "split_offsets",
        "equality_ids",
        "sort_order_id",
    )
    values = {name: getattr(file, name) for name in names}
    made = DataFile.from_args(**{**values, **changes})
    made.spec_id = file.spec_id
    with pair.cold.transaction() as transaction, transaction.update_snapshot().overwrite() as update:
        update.delete_data_file(file)
        update.append_data_file(made)


def _encoded(pair: Pair, column: str, value: int) -> dict[int, bytes]:
    from pyiceberg.conversions import to_bytes

    field = pair.cold.schema().find_field(column)
    return {field.field_id: to_bytes(field.field_type, value)}


WRONG = {
    "partition": (lambda pair, file: {"partition": Record(file.partition[0] - 3)}, "it is in partition at_day = "),
    "upper bound": (
        lambda pair, file: {"upper_bounds": {**file.upper_bounds, **_encoded(pair, "at", ago(8) + HOUR)}},
        "its manifest says that at lies from",
    ),
    "lower bound": (
        lambda pair, file: {"lower_bounds": {**file.lower_bounds, **_encoded(pair, "at", ago(8) + HOUR)}},
        "its manifest says that at lies from",
    ),
    "nulls": (
        lambda pair, file: {
            "null_value_counts": {**file.null_value_counts, pair.cold.schema().find_field("at").field_id: 24}
        },
        "its manifest says that at is always null",
    ),
    "rows": (lambda pair, file: {"record_count": 25}, "its manifest says 25 rows, but it holds 24"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_readers_would_rule_out_wrongly_is_a_difference(pair, what):
    changes, said = WRONG[what]
    file = files(pair)[1]
    redescribe(pair, file, **changes(pair, file))
    verdict = pair.verify()
    assert not verdict.equal
    (bad,) = verdict.files
    assert (bad.path, bad.dead) == (file.file_path, False)
    assert said in bad.why
    assert "1 cold file is described wrongly" in verdict.verdict
    assert pair.repair(verdict).reports == [] or what in ("upper bound", "lower bound"), "a repair does not touch it"


def test_a_partition_of_many_columns_and_transforms_is_described_rightly(clickhouse, iceberg, ledger, fresh_names):
    """What our own files say is true, for every transform and type."""
    name = fresh_names("parts")
    clickhouse.execute(
        f"CREATE TABLE test.{name} (n Int64, d Date, t DateTime64(6, 'UTC'), s Nullable(String), u UUID, f "
        f"Decimal(18, 3), b Bool, "
        "arrived DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY n"
    )
    clickhouse.execute(
        f"INSERT INTO test.{name} SELECT number, toDate('2026-01-01') + number % 3, "
        "addHours(toDateTime64('2026-01-31 22:00:00', 6, 'UTC'), number % 5), "
        "if(number % 4 = 0, NULL, concat('ä', toString(number % 2))), "
        "toUUID(concat('00000000-0000-4000-8000-00000000000', "
        "toString(number % 2))), number % 2, number % 2, now64(6, 'UTC') FROM numbers(40)"
    )
    pair = Pair.__new__(Pair)
    pair.__dict__.update(
        clickhouse=clickhouse,
        iceberg=iceberg,
        ledger=ledger,
        name=name,
        mode="append",
        ttl="",
        entry={"partition": ["d", "hour(t)", "s", "f", "b", "u"]},
    )
    pair.offload()
    verdict = pair.verify()
    assert verdict.files == ()
    assert verdict.equal
