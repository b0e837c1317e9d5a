"""The Spark engine against real services.

What it leaves equals what the direct engine leaves and what ClickHouse holds.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pyiceberg.expressions import EqualTo

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.engines import progress
from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.engines.spark import engine as spark_engine
from airflow_provider_k2.engines.spark.engine import SparkEngine
from airflow_provider_k2.engines.spark.job import Spark
from airflow_provider_k2.engines.spark.tasks import run_task
from airflow_provider_k2.exceptions import CLICKHOUSE, ProofError, ServiceError, TypePlanError
from airflow_provider_k2.local import ensure_spark
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.windows import Window
from tests.integration.engines.spark.conftest import Submit
from tests.support.spark_catalog import spark_catalog
from tests.support.spark_checksum import checksum_query
from tests.support.spark_inline import inline

START = 1_763_700_000_000_000

TYPES = {
    "seen": ("DateTime64(6, 'UTC')", "fromUnixTimestamp64Micro(toInt64(1763700000000000 + n), 'UTC')"),
    "u8": ("UInt8", "n % 256"),
    "i16": ("Int16", "toInt16(n) - 5"),
    "u32": ("UInt32", "4294967295 - n"),
    "i64": ("Int64", "-9223372036854775808 + n"),
    "u64": ("UInt64", "18446744073709551615 - n * 1000000007 * 1000000009"),
    "flag": ("Bool", "n % 2 = 1"),
    "f32": ("Float32", "n / 3"),
    "f64": ("Float64", "[nan, inf, -inf, -0.0, 1 / 3, -nan][n % 6 + 1]"),
    "low": ("Decimal(18, 8)", "toDecimal64(n, 8) / -7"),
    "big": ("Decimal(38, 8)", "toDecimal128('-999999999999999999999999999999.99999999', 8) + n"),
    "mid": ("Decimal(30, 12)", "toDecimal128('1234567890123456.000000000001', 12) * (toInt64(n) - 3)"),
    "tiny": ("Decimal(38, 30)", "toDecimal128('0.000000000000000000000000000001', 30) * (toInt64(n) - 2)"),
    "edge": (
        "Decimal(38, 8)",
        "toDecimal128(['92233720368.54775807', '92233720368.54775808', '-92233720368.54775808', "
        "'-92233720368.54775809', '0', "
        "'-184467440737.09551616'][n % 6 + 1], 8)",
    ),
    "tail": (
        "Decimal(38, 37)",
        "toDecimal128(['-9.9999999999999999999999999999999999999', '0.0000000000000000000000000000000000001', '1'][n "
        "% 3 + 1], 37)",
    ),
    "frac": (
        "Decimal(38, 38)",
        "toDecimal128(['-0.99999999999999999999999999999999999999', '0.00000000000000000000000000000000000001', "
        "'0'][n % 3 + 1], "
        "38)",
    ),
    "wide": ("Decimal(38, 0)", "toDecimal128('-99999999999999999999999999999999999999', 0) + n * 3"),
    "day": ("Date", "toDate('2026-01-01') + n"),
    "old": ("Date32", "toDate32('1900-01-01') + n"),
    "sec": ("DateTime('Asia/Tokyo')", "toDateTime(1700000000 + n, 'Asia/Tokyo')"),
    "ms": (
        "Nullable(DateTime64(3, 'America/New_York'))",
        "if(n % 3 = 0, NULL, fromUnixTimestamp64Milli(toInt64(n) - 12345))",
    ),
    "text": ("String", "['', 'a', 'ä€😀', 'quote\\'\"\\\\', 'tab\\tline\\n', repeat('x', 100)][n % 6 + 1]"),
    "TEXT": ("Int8", "n % 3"),
    "k2_text": ("Int8", "n % 5"),
    "bytes": ("String", "unhex('FF00' || hex(toString(n)))"),
    "maybe": ("Nullable(String)", "if(n % 2 = 0, NULL, toString(n))"),
    "dict": ("LowCardinality(Nullable(String))", "if(n % 4 = 0, NULL, 'BTCUSDT')"),
    "side": ("Enum8('BUY' = 1, 'SELL' = 2)", "if(n % 2 = 0, 'BUY', 'SELL')"),
    "fixed": ("FixedString(5)", "toFixedString(unhex('00ff7f80') || 'x', 5)"),
    "id": ("UUID", "reinterpretAsUUID(MD5(toString(n)))"),
    "ip": ("IPv4", "toIPv4('10.0.0.' || toString(n % 256))"),
    "list": ("Array(String)", "arrayMap(x -> 'i' || toString(x) || '\"', range(n % 4))"),
    "nums": ("Array(Nullable(Decimal(20, 4)))", "[toDecimal128(n, 4) / 3, NULL, -1]"),
    "times": ("Array(DateTime64(6, 'UTC'))", "[fromUnixTimestamp64Micro(toInt64(n) - 1, 'UTC')]"),
    "deep": ("Array(Array(Int32))", "[[1, toInt32(n)], [], [-1]]"),
    "tags": ("Map(String, String)", "map('a', toString(n), 'b\"', 'ü')"),
    "more": ("Map(LowCardinality(String), Array(Nullable(UInt64)))", "map('k', [n, NULL, 18446744073709551615])"),
    "keyed": ("Map(Int32, Float64)", "map(toInt32(n), n / 7, -1, nan)"),
}
"""Every kind of type that the type plan takes, with values at the edges; ``n`` counts rows."""


def warm_table(world, name: str, rows: int) -> None:
    columns = ", ".join(f"{column} {kind}" for column, (kind, _) in TYPES.items())
    values = ", ".join(f"CAST({value}, $${kind}$$) AS {column}" for column, (kind, value) in TYPES.items())
    world.clickhouse.execute(f"CREATE TABLE t.{name} ({columns}) ENGINE = MergeTree ORDER BY seen")
    world.clickhouse.execute(f"INSERT INTO t.{name} SELECT {values} FROM (SELECT number AS n FROM numbers({rows}))")


def cold(world, name: str):
    return world.iceberg.load(f"cold.{name}")


READER = Path(__file__).parents[3] / "support" / "spark_reader.py"
WINDOW_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def paths(world, name: str) -> list[str]:
    """Every data file that lies in a cold table's storage, committed or not."""
    from pyarrow.fs import FileSelector

    table = cold(world, name)
    location = table.location().removeprefix("s3://")
    found = table.io.fs_by_scheme("s3", location.partition("/")[0]).get_file_info(
        FileSelector(f"{location}/data", recursive=True, allow_not_found=True)
    )
    return [file.path for file in found if file.is_file]


def committed(world, name: str) -> list[str]:
    return [task.file.file_path.removeprefix("s3://") for task in cold(world, name).scan().plan_files()]


def some_rows(world, name: str, rows: int, more: str = "") -> None:
    world.clickhouse.execute(
        f"CREATE TABLE IF NOT EXISTS t.{name} (seen DateTime64(6, 'UTC'), symbol String{more}) ENGINE = MergeTree "
        f"ORDER BY seen"
    )
    world.clickhouse.execute(
        f"INSERT INTO t.{name} SELECT fromUnixTimestamp64Micro({START} + number, 'UTC'), 'S' || number % 2 FROM "
        f"numbers({rows})"
    )


@pytest.fixture(scope="module")
def kinds(world):
    """Reports of both engines that moved a table of all types, by the engine's name."""
    warm_table(world, "kinds", 60)
    reports = {}
    for engine in (SparkEngine(Spark(world.submit)), DirectEngine()):
        entry = world.table(
            source="t.kinds",
            target=f"cold.kinds_{engine.name}",
            cursor="seen",
            partition=["day(seen)", "side"],
            case_sensitive=True,
            types={"bytes": "binary"},
        )
        reports[engine.name] = world.run(entry, engine)
    return reports


@pytest.mark.xdist_group("spark-kinds")
def test_every_type_is_exact_and_both_engines_leave_the_same(world, kinds):
    reports = kinds
    assert reports["spark"].rows == reports["direct"].rows == 60
    assert reports["spark"].checksum == reports["direct"].checksum
    tables = [cold(world, f"kinds_{name}") for name in reports]
    assert str(tables[0].schema()) == str(tables[1].schema())
    # The third opinion: what any reader sees, summed by Arrow.
    for table in tables:
        batches = table.scan().to_arrow_batch_reader()
        assert checksum(batches) == (60, reports["spark"].checksum)
    # What the manifests say of the files went through JSON twice.
    told = [
        sorted(
            (tuple(task.file.partition._data), task.file.record_count, sorted(task.file.lower_bounds.items()))
            for task in table.scan().plan_files()
        )
        for table in tables
    ]
    assert told[0] == told[1]
    summary = tables[0].current_snapshot().summary.additional_properties
    assert (summary["k2.engine"], summary["k2.rows"]) == ("spark", "60")
    assert not any(line for line in "".join(world.submit.output).splitlines() if re.search(r"\bINFO\b", line))


@pytest.mark.slow  # fetches Spark's jars; tests/integration/test_readers.py is the short form
def test_spark_sql_reads_both_engines_files_and_sums_the_same(world, tmp_path):
    """Iceberg's own reader and a checksum in another language: an opinion that shares no code with the proof."""
    warm_table(world, "read", 40)
    entry = world.table(
        source="t.read",
        target="cold.read",
        cursor="seen",
        partition=["day(seen)", "side"],
        case_sensitive=True,
        types={"bytes": "binary"},
    )
    world.run(entry, DirectEngine())
    world.clickhouse.execute("INSERT INTO t.read SELECT * REPLACE (seen + INTERVAL 1 DAY AS seen) FROM t.read")
    day = Window(START + 86_400_000_000, START + 2 * 86_400_000_000)
    world.run(entry, SparkEngine(Spark(inline())), window=day, kind="backfill")
    table = cold(world, "read")
    expected = checksum(table.scan().to_arrow_batch_reader())
    assert expected[0] == 80
    name, properties = spark_catalog(world.iceberg.catalog)
    plan = WarmTable(entry, world.clickhouse).plan
    spec = {"catalog": name, "properties": properties, "queries": [checksum_query(plan, f"{name}.cold.read")]}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    ensure_spark(world.submit.binary.parents[1], jars=True)
    done = subprocess.run(
        [world.submit.binary, "--master", "local[1]", READER, tmp_path / "spec.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("ROW")] or [done.stderr]
    rows, total = json.loads(row.removeprefix("ROW "))
    assert (rows, total % 2**64) == expected


def test_upsert_replaces_by_key_and_tells_how_far_it_is(world, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    world.clickhouse.execute(
        "CREATE TABLE t.candles (symbol String, start DateTime64(6, 'UTC'), close Decimal(38, 8), "
        "upd DateTime64(6, 'UTC')) "
        "ENGINE = MergeTree ORDER BY upd"
    )
    insert = (
        "INSERT INTO t.candles SELECT ['a', 'b'][number % 2 + 1], toDateTime64('2026-10-01 00:00:00', 6, 'UTC') + "
        "intDiv(number, 2) * 60, {}, now64(6) FROM numbers({}, {})"
    )
    world.clickhouse.execute(insert.format("number", 0, 2000))
    entry = world.table(
        source="t.candles",
        target="cold.candles",
        layer="gold",
        cursor="upd",
        mode="upsert",
        key=["symbol", "start"],
        partition=["month(start)", "symbol"],
        exclude=["upd"],
        event_time="start",
    )
    assert world.run(entry, SparkEngine(Spark(inline()))).rows == 2000
    # The same keys twice in one window: the last one counts, and the others of the file stay.
    world.clickhouse.execute(insert.format("number + 1", 1000, 50))
    world.clickhouse.execute(insert.format("number + 2", 1000, 50))
    assert world.run(entry, SparkEngine(Spark(world.submit), piece_rows=20)).rows == 50
    assert re.search(r"k2: candles: \d+ of 50 rows are written and proven \(\d+ %", world.submit.output[-1])
    table = cold(world, "candles")
    assert table.scan().count() == 2000
    assert [table.scan(row_filter=EqualTo("close", close)).count() for close in (1000, 1002, 1050)] == [0, 1, 2]


def python_workers(process: psutil.Process) -> list[psutil.Process]:
    """The Python processes in which Spark's tasks run: children of a daemon that looks the same."""
    found = []
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            parent = one.parent()
            if "pyspark.daemon" in one.cmdline() and parent is not None and "pyspark.daemon" in parent.cmdline():
                found.append(one)
    return found


@pytest.mark.slow
def test_a_task_whose_process_is_killed_is_done_again_and_counts_once(world, monkeypatch, tmp_path):
    some_rows(world, "again", 40)
    entry = world.table(source="t.again", target="cold.again", cursor="seen", partition=["symbol"])
    submit = Submit(world.submit.binary, ("--master", "local[1,4]"))
    monkeypatch.setenv("K2_FAILPOINTS", f"after_write=hold:{tmp_path}")
    killed = []

    def kill_the_first_task():
        """Its file is written, and not yet proven."""
        until = time.monotonic() + 60
        try:
            while not (tmp_path / "after_write.reached").exists() and time.monotonic() < until:
                time.sleep(0.02)
            killed.extend(paths(world, "again"))
            python_workers(psutil.Process())[0].kill()
        finally:
            (tmp_path / "after_write.go").touch()

    killer = threading.Thread(target=kill_the_first_task)
    killer.start()
    # What the worker itself passes is not to wait.
    monkeypatch.setattr(spark_engine, "failpoint", lambda name: None)
    report = world.run(entry, SparkEngine(Spark(submit)))
    killer.join()
    assert report.rows == 40
    assert cold(world, "again").scan().count() == 40
    (orphan,) = killed
    assert set(paths(world, "again")) - set(committed(world, "again")) == {orphan}
    for path in paths(world, "again"):
        assert re.match(WINDOW_ID, path.rpartition("/")[2])


def test_a_machine_without_the_packages_is_named(world):
    """The executor's Python is a bare one, as on a cluster that nobody has prepared."""
    some_rows(world, "bare", 3)
    entry = world.table(source="t.bare", target="cold.bare", cursor="seen")
    bare = next(Path(sys.base_prefix, "bin").glob(f"python3.{sys.version_info.minor}"))
    submit = Submit(world.submit.binary, ("--master", "local[1]", "--conf", f"spark.pyspark.python={bare}"))
    host = os.uname().nodename
    wanted = (
        rf"the executor on {host} cannot run it: .*xxhash is not installed.*Install there .*'xxhash>=.*or ship an e"
    )
    with pytest.raises(ServiceError, match=wanted):
        world.run(entry, SparkEngine(Spark(submit)))
    assert world.ledger.watermark(entry) is None
    assert paths(world, "bare") == []


@pytest.mark.slow
def test_a_driver_elsewhere_answers_through_the_object_store(world, monkeypatch, tmp_path, caplog):
    """The driver sees neither the worker's folder nor its credentials: those lie in a file on its own machine."""
    some_rows(world, "remote", 30)
    entry = world.table(source="t.remote", target="cold.remote", cursor="seen")
    access = world.iceberg.catalog.properties
    secrets = {
        "clickhouse.password": world.clickhouse.endpoints.password,
        "s3.access-key-id": access["s3.access-key-id"],
        "s3.secret-access-key": access["s3.secret-access-key"],
        "client.access-key-id": access["client.access-key-id"],
        "client.secret-access-key": access["client.secret-access-key"],
    }
    secret_file = tmp_path / "secrets.json"
    secret_file.write_text(json.dumps({"s3.access-key-id": "x"}))
    seen = []

    def submit(submission):
        """As on YARN: what --files names lies in the driver's working directory, and there is no other file."""
        seen.append(submission)
        (described,) = submission.files
        text = Path(described).read_text()
        assert not [secret for secret in secrets.values() if secret in text]
        folder = tmp_path / "container"
        folder.mkdir(exist_ok=True)
        Path(described).rename(folder / Path(described).name)
        done = subprocess.run(
            [
                world.submit.binary,
                "--master",
                "local[1]",
                "--py-files",
                ",".join(submission.py_files),
                submission.application,
                *submission.application_args,
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(next(line for line in done.stdout.splitlines() if line.startswith("k2: ")))
        assert list(folder.iterdir()) == [], "the description is left"

    monkeypatch.setattr(progress, "EVERY", 0.0)
    spark = Spark(submit, remote_driver=True, secrets_file=str(secret_file))
    with pytest.raises(
        ServiceError, match=r"the file .* with the credentials lacks clickhouse.password, client.access-key-id"
    ):
        world.run(entry, SparkEngine(spark))
    with pytest.raises(ServiceError, match=r"stays in caches.*put clickhouse.password, .*secrets-file.* in the extras"):
        world.run(entry, SparkEngine(replace(spark, secrets_file=None)))
    secret_file.write_text(json.dumps(secrets))
    with caplog.at_level("INFO"):
        assert world.run(entry, SparkEngine(spark)).rows == 30
    assert [line for line in caplog.messages if re.match(r"remote: \d+ of 30 rows are written and proven", line)]
    assert cold(world, "remote").scan().count() == 30
    assert seen[0].env == {}
    # The answer has been taken away.
    assert sorted(paths(world, "remote")) == sorted(committed(world, "remote"))


def test_a_job_whose_worker_died_commits_nothing_whenever_it_ends(world):
    """The worker is gone in the middle of a job; its retry submits another; then the first one comes to its end."""
    some_rows(world, "zombie", 20)
    entry = world.table(source="t.zombie", target="cold.zombie", cursor="seen")
    first = []

    class WorkerKilledError(BaseException):
        pass

    def die(submission):
        first.append(Path(submission.application_args[0]).read_text())
        raise WorkerKilledError

    with pytest.raises(WorkerKilledError):
        world.run(entry, SparkEngine(Spark(die)))
    assert world.run(entry, SparkEngine(Spark(inline()))).rows == 20
    head = cold(world, "zombie").metadata.current_snapshot_id
    description = json.loads(first[0])
    for number, task in enumerate(description["tasks"]):
        item = json.dumps({**task, "access": description["access"]})
        assert "done" in run_task(description["work"], json.dumps(description["shared"]), item, number)
    table = cold(world, "zombie")
    assert (table.metadata.current_snapshot_id, table.scan().count()) == (head, 20)
    (orphan,) = set(paths(world, "zombie")) - set(committed(world, "zombie"))
    names = [re.match(WINDOW_ID, path.rpartition("/")[2])[0] for path in (orphan, *committed(world, "zombie"))]
    assert len(set(names)) == 2, "the retry's files are those of a window of its own"
    assert world.run(entry, SparkEngine(Spark(inline()))).rows == 0


# What the worker makes of answers -------------------------------------------------------------------------------------


def test_a_conflict_is_committed_onto_the_new_snapshot_without_another_job(world):
    some_rows(world, "rival", 100)
    entry = world.table(source="t.rival", target="cold.rival", cursor="seen")
    world.run(entry, DirectEngine())
    jobs = []

    def submit_with_a_rival(submission):
        jobs.append(submission)
        inline()(submission)
        other = cold(world, "rival")
        other.append(other.scan(limit=1).to_arrow())

    window = Window(START, START + 1000)
    # The rival's row lies in the window: it is replaced too. The window has none for it, hence the force.
    report = world.run(entry, SparkEngine(Spark(submit_with_a_rival)), window=window, kind="repair", force=True)
    assert report.rows == 100
    assert cold(world, "rival").scan().count() == 100
    assert len(jobs) == 1


def test_what_cannot_be_proven_is_not_committed_and_written_under_other_names_again(world):
    some_rows(world, "shady", 10)
    entry = world.table(source="t.shady", target="cold.shady", cursor="seen")
    pieces = []

    def lose_a_row(description):
        (task,) = description["tasks"]
        pieces.append(task["piece"]["path"])
        task["piece"]["select"] += " LIMIT 9"

    with pytest.raises(ProofError, match=r"holds 10 rows .* but 9 rows .* were read back"):
        world.run(entry, SparkEngine(Spark(inline(lose_a_row))))
    assert cold(world, "shady").metadata.current_snapshot_id is None
    assert world.ledger.watermark(entry) is None
    assert len(set(pieces)) == len(pieces) == 3, "a job that was given up could overwrite a file of the next one"
    assert paths(world, "shady") == []


def test_a_value_that_its_cold_type_does_not_allow_is_named(world):
    world.clickhouse.execute(
        "CREATE TABLE t.digits (seen DateTime64(6, 'UTC'), c Decimal(5, 2)) ENGINE = MergeTree ORDER BY seen"
    )
    world.clickhouse.execute(
        f"INSERT INTO t.digits SELECT fromUnixTimestamp64Micro({START}, 'UTC'), "
        "reinterpret(toInt64(1234567), 'Decimal(5, 2)')"
    )
    with pytest.raises(TypePlanError, match="1 row holds a number in column c with more digits"):
        world.run(world.table(source="t.digits", target="cold.digits", cursor="seen"), SparkEngine(Spark(world.submit)))
    assert cold(world, "digits").metadata.current_snapshot_id is None


def test_failures_say_what_and_leave_everything(world, monkeypatch):
    some_rows(world, "fails", 1)
    entry = world.table(source="t.fails", target="cold.fails", cursor="seen")

    def fails_with(error):
        def submit(submission):
            raise error

        return SparkEngine(Spark(submit))

    with pytest.raises(ServiceError, match="spark-submit is not there"):
        world.run(entry, fails_with(FileNotFoundError(2, "No such file or directory", "spark-submit")))
    with pytest.raises(ServiceError, match=r"failed: RuntimeError: exit code 3\. Nothing was committed"):
        world.run(entry, fails_with(RuntimeError("exit code 3\nand much more")))
    with pytest.raises(ServiceError, match="left no answer"):
        world.run(entry, SparkEngine(Spark(lambda submission: None)))
    with pytest.raises(ServiceError, match="left no answer"):
        world.run(entry, SparkEngine(Spark(lambda submission: None, remote_driver=True, secrets_file="/x")))
    with pytest.raises(ServiceError, match="left no answer"):
        world.run(entry, SparkEngine(Spark(inline(answered=lambda answer: answer["done"].clear()))))
    # Files on the disks of other machines.
    monkeypatch.setattr(spark_engine.os.path, "exists", lambda path: False)
    monkeypatch.setattr(spark_engine, "urlsplit", lambda path: type("Parts", (), {"scheme": "file", "path": path}))
    with pytest.raises(ServiceError, match="is not on the worker's disk: Spark's executors wrote it to their own"):
        world.run(entry, SparkEngine(Spark(inline())))
    assert world.ledger.watermark(entry) is None
    assert cold(world, "fails").metadata.current_snapshot_id is None


@pytest.mark.slow
def test_an_error_of_a_service_names_it_and_no_secret(world, monkeypatch):
    some_rows(world, "lost", 1)
    entry = world.table(source="t.lost", target="cold.lost", cursor="seen")

    def wrong_password(description):
        description["access"]["endpoints"]["password"] = "a-wrong-one"

    def no_server(description):
        description["access"]["endpoints"]["http_port"] = 9

    for twist, words in (
        (wrong_password, "ClickHouse at .* refuses the user or password"),
        (no_server, "ClickHouse at .*:9 "),
    ):
        with pytest.raises(ServiceError, match=words) as caught:
            world.run(entry, SparkEngine(Spark(inline(twist))))
        assert caught.value.service == CLICKHOUSE
        assert "a-wrong-one" not in str(caught.value)

    def through_spark(submission):
        path = Path(submission.application_args[0])
        description = json.loads(path.read_text())
        no_server(description)
        path.write_text(json.dumps(description))
        world.submit(submission)

    with pytest.raises(ServiceError, match=r"ClickHouse at .*:9 .*asked by Spark's executor on") as caught:
        world.run(entry, SparkEngine(Spark(through_spark)))
    assert caught.value.service == CLICKHOUSE
    assert "`http_port`" in caught.value.fix


@pytest.mark.xdist_group("spark-kinds")
def test_nothing_of_a_job_is_left_on_the_worker(world, kinds):
    """Looks at everything that the jobs up to now, the one of ``kinds`` at least, were given and printed."""
    assert kinds["spark"].rows
    assert world.submit.descriptions
    secrets = {world.clickhouse.endpoints.password, world.iceberg.catalog.properties["s3.secret-access-key"]}
    for submission, output, description in zip(
        world.submit.submissions, world.submit.output, world.submit.descriptions, strict=True
    ):
        assert all(secret in description for secret in secrets)
        assert not [secret for secret in secrets if secret in repr(submission) + output]
        assert not Path(submission.application_args[0]).parent.exists()
