"""The Spark engine against real services: what it leaves equals what the direct engine leaves and what ClickHouse holds."""

import json
import re
from pathlib import Path

import pytest
from pyiceberg.expressions import EqualTo

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.engines.spark.engine import PROVEN, STAGE, SparkEngine
from airflow_provider_k2.exceptions import ProofError, ReplacedByLessError, ServiceError, TypePlanError
from airflow_provider_k2.windows import Window

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
        "toDecimal128(['92233720368.54775807', '92233720368.54775808', '-92233720368.54775808', '-92233720368.54775809', '0', "
        "'-184467440737.09551616'][n % 6 + 1], 8)",
    ),
    "tail": (
        "Decimal(38, 37)",
        "toDecimal128(['-9.9999999999999999999999999999999999999', '0.0000000000000000000000000000000000001', '1'][n % 3 + 1], 37)",
    ),
    "frac": (
        "Decimal(38, 38)",
        "toDecimal128(['-0.99999999999999999999999999999999999999', '0.00000000000000000000000000000000000001', '0'][n % 3 + 1], "
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


def branches(table) -> list[str]:
    return [name for name in table.metadata.refs if name.startswith((STAGE, PROVEN))]


def test_every_type_is_exact_and_both_engines_leave_the_same(world):
    warm_table(world, "kinds", 60)
    reports = {}
    for engine in (SparkEngine(world.submit, piece_rows=25), DirectEngine()):
        entry = world.table(
            source="t.kinds", target=f"cold.kinds_{engine.name}", cursor="seen", partition=["day(seen)", "side"]
        )
        reports[engine.name] = world.run(entry, engine)
    assert reports["spark"].rows == reports["direct"].rows == 60
    assert reports["spark"].checksum == reports["direct"].checksum
    tables = [cold(world, f"kinds_{name}") for name in reports]
    assert str(tables[0].schema()) == str(tables[1].schema())
    # The third opinion: what any reader sees, summed by Arrow.
    for table in tables:
        batches = table.scan().to_arrow_batch_reader()
        assert checksum(batches) == (60, reports["spark"].checksum)
    summary = tables[0].current_snapshot().summary.additional_properties
    assert summary["k2.engine"] == "spark"
    assert summary["k2.rows"] == "60"
    assert branches(tables[0]) == []


def test_bytes_are_kept_and_no_text_is_made_of_them(world):
    world.clickhouse.execute(
        "CREATE TABLE t.bytes (seen DateTime64(6, 'UTC'), c Nullable(String)) ENGINE = MergeTree ORDER BY seen"
    )
    world.clickhouse.execute(
        f"INSERT INTO t.bytes SELECT fromUnixTimestamp64Micro({START} + number, 'UTC'), [NULL, unhex('61FF62'), 'text'][number] "
        "FROM numbers(1, 3)"
    )
    kept = world.table(source="t.bytes", target="cold.bytes", cursor="seen", types={"c": "binary"})
    assert world.run(kept).rows == 3
    assert cold(world, "bytes").scan().to_arrow().sort_by("seen")["c"].to_pylist() == [None, b"a\xffb", b"text"]
    text = world.table(source="t.bytes", target="cold.text", cursor="seen")
    with pytest.raises(TypePlanError, match="1 row holds text in column c that is not UTF-8"):
        world.run(text)
    assert cold(world, "text").metadata.current_snapshot_id is None


def test_a_decimal_with_more_digits_than_declared_fails_the_job(world):
    world.clickhouse.execute(
        "CREATE TABLE t.digits (seen DateTime64(6, 'UTC'), c Decimal(5, 2)) ENGINE = MergeTree ORDER BY seen"
    )
    world.clickhouse.execute(
        f"INSERT INTO t.digits SELECT fromUnixTimestamp64Micro({START}, 'UTC'), reinterpret(toInt64(1234567), 'Decimal(5, 2)')"
    )
    with pytest.raises(ServiceError, match=r"digits.*Nothing was committed"):
        world.run(world.table(source="t.digits", target="cold.digits", cursor="seen"))
    assert cold(world, "digits").metadata.current_snapshot_id is None


def test_a_window_is_replaced_also_where_files_match_in_part(world):
    world.clickhouse.execute(
        "CREATE TABLE t.facts (seen DateTime64(6, 'UTC'), symbol String, price Decimal(18, 8)) ENGINE = MergeTree ORDER BY seen"
    )
    fill = f"INSERT INTO t.facts SELECT fromUnixTimestamp64Micro({START} + number * 1000000, 'UTC'), 'S' || number % 2, number"
    world.clickhouse.execute(f"{fill} FROM numbers(1000)")
    entry = world.table(source="t.facts", target="cold.facts", cursor="seen", partition=["day(seen)", "symbol"])
    first = world.run(entry)
    assert first.rows == 1000
    # The same again: whole files, by one overwrite.
    whole = Window(START, START + 1_000_000_000)
    world.run(entry, window=whole, kind="backfill")
    table = cold(world, "facts")
    assert table.scan().count() == 1000
    assert [
        s.summary.operation.value
        for s in table.metadata.snapshots
        if s.snapshot_id == table.metadata.current_snapshot_id
    ] == ["overwrite"]
    # A part of them, and late rows in it.
    world.clickhouse.execute(f"{fill.replace('number', '(number + 100)').replace('price', 'price')} FROM numbers(50)")
    part = Window(START + 100_000_000, START + 200_000_000)
    report = world.run(entry, window=part, kind="backfill")
    assert report.rows == 150
    table = cold(world, "facts")
    assert table.scan().count() == 1050
    assert branches(table) == []
    # Less than before is refused, and nothing has changed.
    world.clickhouse.execute("ALTER TABLE t.facts DELETE WHERE price < 110 SETTINGS mutations_sync = 2")
    with pytest.raises(ReplacedByLessError):
        world.run(entry, window=part, kind="backfill")
    assert cold(world, "facts").scan().count() == 1050
    # The watermark has stood still all the time.
    assert world.ledger.watermark(entry).watermark == first.upper


def test_upsert_replaces_by_key(world):
    world.clickhouse.execute(
        "CREATE TABLE t.candles (symbol String, start DateTime64(6, 'UTC'), close Decimal(38, 8), upd DateTime64(6, 'UTC')) "
        "ENGINE = MergeTree ORDER BY upd"
    )
    insert = (
        "INSERT INTO t.candles SELECT ['a', 'b'][number % 2 + 1], toDateTime64('2026-10-01 00:00:00', 6, 'UTC') + "
        "intDiv(number, 2) * 60, {}, now64(6) FROM numbers({}, {})"
    )
    world.clickhouse.execute(insert.format("number", 0, 2000))
    entry = world.table(
        source="t.candles", target="cold.candles", layer="gold", cursor="upd", mode="upsert", key=["symbol", "start"],
        partition=["month(start)", "symbol"], exclude=["upd"], event_time="start",
    )  # fmt: skip
    assert world.run(entry).rows == 2000
    # The same keys twice in one window: the last one counts, and the others of the file stay.
    world.clickhouse.execute(insert.format("number + 1", 1000, 50))
    world.clickhouse.execute(insert.format("number + 2", 1000, 50))
    assert world.run(entry, SparkEngine(world.submit, piece_rows=20)).rows == 50
    table = cold(world, "candles")
    assert table.scan().count() == 2000
    assert [table.scan(row_filter=EqualTo("close", close)).count() for close in (1000, 1002, 1050)] == [0, 1, 2]
    assert branches(table) == []


def test_a_key_is_not_replaced_by_less(world):
    world.clickhouse.execute(
        "CREATE TABLE t.counts (symbol String, start DateTime64(6, 'UTC'), trades UInt64, upd DateTime64(6, 'UTC')) "
        "ENGINE = MergeTree ORDER BY upd"
    )
    entry = world.table(
        source="t.counts", target="cold.counts", layer="gold", cursor="upd", mode="upsert", key=["symbol", "start"],
        exclude=["upd"], event_time="start", grows="trades",
    )  # fmt: skip
    insert = "INSERT INTO t.counts SELECT toString(number), toDateTime('2026-10-01 00:00:00', 'UTC'), {}, now64(6) FROM numbers({})"
    world.clickhouse.execute(insert.format("100", 10))
    assert world.run(entry).rows == 10
    world.clickhouse.execute(insert.format("if(number < 8, 101, 7)", 10))
    head = cold(world, "counts").metadata.current_snapshot_id
    with pytest.raises(
        ReplacedByLessError,
        match=r"the key \([89], 2026-10-01 .*trades 7 in the warm tier, but 100 .*1 more key like it",
    ):
        world.run(entry)
    assert cold(world, "counts").metadata.current_snapshot_id == head
    assert world.run(entry, force=True).rows == 10
    assert sorted(cold(world, "counts").scan().to_arrow()["trades"].to_pylist()) == [7, 7, *[101] * 8]
    assert branches(cold(world, "counts")) == []


def test_a_conflict_is_planned_again_and_a_dead_runs_branch_is_dropped(world):
    world.clickhouse.execute(
        "CREATE TABLE t.rival (seen DateTime64(6, 'UTC'), price Decimal(18, 8)) ENGINE = MergeTree ORDER BY seen"
    )
    world.clickhouse.execute(
        f"INSERT INTO t.rival SELECT fromUnixTimestamp64Micro({START} + number, 'UTC'), number FROM numbers(100)"
    )
    entry = world.table(source="t.rival", target="cold.rival", cursor="seen")
    world.run(entry, DirectEngine())
    table = cold(world, "rival")
    table.manage_snapshots().create_branch(table.metadata.current_snapshot_id, f"{STAGE}-k2-dead").commit()

    def submit_with_a_rival(submission):
        world.submit(submission)
        other = cold(world, "rival")
        other.append(other.scan(limit=1).to_arrow())

    window = Window(START, START + 1000)
    # The rival's row lies in the window: it is replaced too. It makes the cold tier hold more, hence the force.
    report = world.run(entry, SparkEngine(submit_with_a_rival), window=window, kind="repair", force=True)
    assert report.rows == 100
    table = cold(world, "rival")
    assert table.scan().count() == 100
    assert branches(table) == []


def test_what_cannot_be_proven_is_not_committed(world, monkeypatch):
    monkeypatch.setattr("airflow_provider_k2.offload.run.PROOF_TRIES", 1)
    world.clickhouse.execute(
        "CREATE TABLE t.shady (seen DateTime64(6, 'UTC'), s String) ENGINE = MergeTree ORDER BY seen"
    )
    world.clickhouse.execute(f"INSERT INTO t.shady VALUES (fromUnixTimestamp64Micro({START}, 'UTC'), 'a')")
    entry = world.table(source="t.shady", target="cold.shady", cursor="seen")

    def submit_twisted(submission):
        """A job that reads something else than what was counted."""
        path = Path(submission.application_args[0])
        spec = json.loads(path.read_text())
        path.write_text(json.dumps({**spec, "checksum": str(int(spec["checksum"]) ^ 1)}))
        world.submit(submission)

    world.submit.submissions.clear()
    with pytest.raises(ProofError, match="read back"):
        world.run(entry, SparkEngine(submit_twisted))
    assert cold(world, "shady").metadata.current_snapshot_id is None
    assert world.ledger.watermark(entry) is None


def test_failures_say_what_and_leave_everything(world, tmp_path):
    world.clickhouse.execute("CREATE TABLE t.fails (seen DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY seen")
    world.clickhouse.execute(f"INSERT INTO t.fails VALUES (fromUnixTimestamp64Micro({START}, 'UTC'))")
    entry = world.table(source="t.fails", target="cold.fails", cursor="seen")

    def missing(submission):
        raise FileNotFoundError(2, "No such file or directory", "spark-submit")

    with pytest.raises(ServiceError, match="spark-submit is not there"):
        world.run(entry, SparkEngine(missing))
    with pytest.raises(ServiceError, match="exit code 3"):
        world.run(entry, SparkEngine(lambda submission: (_ for _ in ()).throw(RuntimeError("exit code 3"))))
    with pytest.raises(ServiceError, match="no proven snapshot"):
        world.run(entry, SparkEngine(lambda submission: None))
    assert world.ledger.watermark(entry) is None


def test_no_secret_is_seen(world):
    """Runs last in this module: looks at everything that the other tests' jobs were given and printed."""
    assert world.submit.specs
    connection = world.clickhouse.endpoints
    secrets = {connection.password, world.iceberg.catalog.properties["s3.secret-access-key"]} - {""}
    for submission, output in zip(
        world.submit.submissions, world.submit.output[-len(world.submit.submissions) :], strict=True
    ):
        shown = repr(submission) + output
        assert not [secret for secret in secrets if secret in shown]
        assert not Path(submission.application_args[0]).parent.exists()
    noise = [line for line in "".join(world.submit.output).splitlines() if re.search(r"\bINFO\b", line)]
    assert noise == []
