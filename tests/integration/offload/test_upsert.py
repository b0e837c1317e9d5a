"""Upsert mode on real services: a row replaces the row with the same key, wherever that is."""

from __future__ import annotations

import uuid

import pytest

from airflow_provider_k2.exceptions import ReplacedByLessError, TypePlanError
from airflow_provider_k2.windows import Window, to_micros

CANDLES = (
    "(exchange LowCardinality(String), start DateTime64(6, 'UTC'), price Decimal(38, 8), n Int64, tags Array(String)) "
    "ENGINE = MergeTree ORDER BY n"
)


@pytest.fixture
def candles(tiers):
    """Candles by exchange and start; the cursor ``n`` stays warm."""
    return tiers(
        CANDLES,
        mode="upsert",
        key=["exchange", "start"],
        event_time="start",
        exclude=["n"],
        partition=["month(start)", "exchange"],
    )


def insert(table, *rows):
    listed = ", ".join(f"('{exchange}', '{start}', {price}, {n}, ['x'])" for exchange, start, price, n in rows)
    table.sql(f"INSERT INTO {{t}} VALUES {listed}")


def held(table):
    """Cold rows as ``(exchange, day, price)``."""
    rows = table.cold.scan().to_arrow().to_pylist()
    return sorted((row["exchange"], f"{row['start']:%m-%d}", int(row["price"])) for row in rows)


def test_rows_are_replaced_by_key_also_in_old_partitions(candles):
    insert(candles, ("binance", "2026-09-01", 1, 1), ("binance", "2026-10-01", 2, 2), ("kraken", "2026-10-01", 3, 3))
    assert candles.offload().rows == 3
    assert "n" not in candles.cold.schema().column_names
    insert(candles, ("binance", "2026-09-01", 10, 4), ("kraken", "2026-11-01", 4, 5))
    assert candles.offload().rows == 2
    assert held(candles) == [
        ("binance", "09-01", 10),
        ("binance", "10-01", 2),
        ("kraken", "10-01", 3),
        ("kraken", "11-01", 4),
    ]
    assert candles.offload().rows == 0
    assert candles.watermark == 6


def test_the_last_row_of_a_key_within_a_window_wins(candles):
    insert(candles, ("binance", "2026-09-01", 1, 1), ("binance", "2026-09-01", 3, 3), ("binance", "2026-09-01", 2, 2))
    assert candles.offload().rows == 1
    assert held(candles) == [("binance", "09-01", 3)]


def test_a_key_in_several_windows_ends_with_its_last_row(candles):
    candles.entry["window_rows"] = 1
    insert(candles, *(("binance", "2026-09-01", n, n) for n in range(1, 5)))
    assert candles.offload().windows == 4
    assert held(candles) == [("binance", "09-01", 4)]


def test_again_and_again_leaves_the_same_rows(candles):
    insert(candles, *(("binance", f"2026-09-{day:02}", day, day) for day in range(1, 13)))
    candles.offload()
    before = held(candles)
    assert candles.offload(kind="backfill", window=Window(0, 100)).rows == 12
    assert held(candles) == before


def test_a_backfill_of_an_old_range_does_not_bring_replaced_rows_back(candles):
    insert(candles, ("binance", "2026-09-01", 1, 1), ("binance", "2026-09-02", 1, 2))
    candles.offload()
    insert(candles, ("binance", "2026-09-01", 2, 7))
    candles.offload()
    candles.offload(kind="backfill", window=Window(0, 5))
    assert held(candles) == [("binance", "09-01", 2), ("binance", "09-02", 1)]


def test_an_upsert_backfill_is_not_replaced_by_less(candles):
    """The keys of a range by event time: fewer in the warm tier than in the cold one."""
    insert(candles, *(("binance", f"2026-09-{day:02}", day, day) for day in range(1, 6)))
    candles.offload()
    candles.sql("DELETE FROM {t} WHERE n < 3")
    assert candles.offload().rows == 0
    assert len(held(candles)) == 5


@pytest.fixture
def counts(tiers):
    """Rows whose count only grows."""
    return tiers(
        "(id UUID, name String, trades UInt64, n Int64) ENGINE = MergeTree ORDER BY n",
        mode="upsert",
        key=["id", "name"],
        event_time="n",
        grows="trades",
    )


def test_a_row_is_not_replaced_by_one_that_has_less(counts):
    """What it was made of is gone from the warm tier, and it starts anew there."""
    ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(3)]

    def insert(n: int, *trades: int) -> None:
        listed = ", ".join(f"('{one}', 'x', {count}, {n})" for one, count in zip(ids, trades, strict=False))
        counts.sql(f"INSERT INTO {{t}} VALUES {listed}")

    insert(1, 1000, 18_446_744_073_709_551_615, 5)
    assert counts.offload().rows == 3
    # As many as before are no less: a window that is done again.
    insert(2, 1000, 18_446_744_073_709_551_615, 7)
    assert counts.offload().rows == 3
    insert(3, 1, 2, 8)
    before = counts.untouched()
    with pytest.raises(ReplacedByLessError) as refused:
        counts.offload()
    assert counts.untouched() == before
    assert "1 more key like it" in str(refused.value)
    assert "force" not in str(refused.value), "the cold row is the only copy of what the warm one was"
    told = "trades 1 in the warm tier, but 1000 in", "trades 2 in the warm tier, but 18446744073709551615 in"
    assert any(words in str(refused.value) for words in told)
    assert counts.offload(force=True).rows == 3
    assert sorted(row["trades"] for row in counts.cold.scan().to_arrow().to_pylist()) == [1, 2, 8]


def test_a_backfill_beyond_the_watermark_does_not_stop_the_table(counts):
    """The windows below do not offer the older row of a key again whose newer one the backfill has moved."""
    one = str(uuid.uuid5(uuid.NAMESPACE_OID, "1"))

    def insert(n: int, trades: int) -> None:
        counts.sql(f"INSERT INTO {{t}} VALUES ('{one}', 'x', {trades}, {n})")

    insert(1, 10)
    counts.offload()
    insert(2, 20)
    insert(3, 30)
    assert counts.offload(kind="backfill", window=Window(1, 4)).rows == 1
    counts.entry["window_rows"] = 1
    counts.offload(kind="backfill", window=Window(1, 4))
    counts.offload()
    assert [row["trades"] for row in counts.cold.scan().to_arrow().to_pylist()] == [30]
    assert counts.watermark == 4


@pytest.mark.parametrize("kind", ["String", "Nullable(UInt32)", "Float64"])
def test_a_column_that_cannot_grow_is_refused(tiers, kind):
    table = tiers(
        f"(k Int32, v {kind}, n Int64) ENGINE = MergeTree ORDER BY n",
        mode="upsert",
        key=["k"],
        event_time="n",
        grows="v",
    )
    table.sql("INSERT INTO {t} VALUES (1, 1, 1)")
    with pytest.raises(TypePlanError, match=r"grows column v is .*Nothing was moved"):
        table.offload()
    assert table.iceberg.load(f"cold.{table.name}") is None


def test_an_upsert_table_with_a_time_cursor_is_not_replaced_by_less(tiers):
    table = tiers(
        "(k Int32, n DateTime64(6, 'UTC'), v Int32) ENGINE = MergeTree ORDER BY n",
        mode="upsert",
        key=["k"],
        event_time="n",
    )
    table.sql(
        "INSERT INTO {t} SELECT number, toDateTime64('2026-11-01 00:00:00', 6, 'UTC') + number, 1 FROM numbers(6)"
    )
    table.offload()
    table.sql("DELETE FROM {t} WHERE k < 2")
    begin = to_micros(__import__("datetime").datetime(2026, 11, 1, tzinfo=__import__("datetime").UTC))
    window = Window(begin, begin + 4_000_000)
    before = table.untouched()
    table.sql("INSERT INTO {t} SELECT 100 + number, toDateTime64('2026-11-01 00:00:01', 6, 'UTC'), 1 FROM numbers(9)")
    with pytest.raises(
        ReplacedByLessError, match="holds 11 keys in the warm tier, but 4 in the cold tier, of which 2 are not"
    ) as said:
        table.offload(kind="backfill", window=window)
    assert '"keep": true' in str(said.value)
    assert "force" not in str(said.value)
    assert table.untouched() == before
    assert table.offload(kind="backfill", window=window, keep=True).rows == 11
    assert table.cold.scan().to_arrow().num_rows == 15


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("UInt64", "18446744073709551615", "0"),
        ("Int32", "-5", "5"),
        ("String", "'b'", "'ü'"),
        ("FixedString(2)", "'ab'", "'cd'"),
        ("LowCardinality(String)", "'a'", "''"),
        ("Enum8('x' = 1, 'y' = 2)", "'x'", "'y'"),
        ("UUID", f"'{uuid.UUID(int=1)}'", f"'{uuid.UUID(int=2**127)}'"),
        ("Date", "'2026-11-01'", "'1970-01-02'"),
        ("DateTime64(6, 'UTC')", "'2026-11-01 00:00:00.000001'", "'1969-12-31 23:59:59.999999'"),
        ("Decimal(38, 10)", "'-1.0000000001'", "'9999999999999999999999999999.9999999999'"),
        ("Bool", "true", "false"),
    ],
)
def test_keys_of_every_kind(tiers, kind, first, second):
    table = tiers(f"(k {kind}, v Int32, n Int64) ENGINE = MergeTree ORDER BY n", mode="upsert", key=["k"])
    table.sql(f"INSERT INTO {{t}} VALUES ({first}, 1, 1), ({second}, 2, 2)")
    assert table.offload().rows == 2
    table.sql(f"INSERT INTO {{t}} VALUES ({second}, 3, 3)")
    assert table.offload().rows == 1
    assert sorted(table.cold.scan().to_arrow()["v"].to_pylist()) == [1, 3]
    files = list(table.cold.scan().plan_files())
    assert sum(task.file.record_count for task in files) == 2


def test_a_key_that_may_be_null_is_refused(tiers):
    """Null equals null for ClickHouse and equals nothing for a join: such rows would come twice."""
    table = tiers("(k Nullable(Int32), v Int32, n Int64) ENGINE = MergeTree ORDER BY n", mode="upsert", key=["k"])
    table.sql("INSERT INTO {t} VALUES (NULL, 1, 1)")
    with pytest.raises(TypePlanError, match=r"key column k .*Nullable.*Nothing was moved"):
        table.offload()
    assert table.untouched() == (None, None)


def test_a_key_that_is_not_there_is_refused(tiers):
    table = tiers("(v Int32, n Int64) ENGINE = MergeTree ORDER BY n", mode="upsert", key=["k"])
    with pytest.raises(TypePlanError, match=r"key column k .*Nothing was moved"):
        table.offload()


def test_survivors_keep_their_nested_values(candles):
    insert(candles, *(("binance", f"2026-09-{day:02}", day, day) for day in range(1, 5)))
    candles.sql("ALTER TABLE {t} UPDATE tags = ['a', 'b'] WHERE n = 2 SETTINGS mutations_sync = 2")
    candles.offload()
    insert(candles, ("binance", "2026-09-01", 9, 9))
    candles.offload()
    tags = {row["price"]: row["tags"] for row in candles.cold.scan().to_arrow().to_pylist()}
    assert tags == {9: ["x"], 2: ["a", "b"], 3: ["x"], 4: ["x"]}


def test_keys_of_any_length(tiers):
    """They are compared by a hash beyond 64 bytes: a window of long keys in memory would be as large as the window."""
    table = tiers(
        "(n Int64, k String, v Int64) ENGINE = MergeTree ORDER BY n", mode="upsert", key=["k"], window_rows=1000
    )
    table.sql("INSERT INTO {t} SELECT number, concat(repeat('k', number * 40), 'é'), number FROM numbers(40)")
    table.offload()
    table.sql("INSERT INTO {t} SELECT 100 + number, concat(repeat('k', number * 80), 'é'), -1 FROM numbers(10)")
    table.offload()
    latest = table.sql("SELECT max(n), k, argMax(v, n) FROM {t} GROUP BY k")
    assert sorted(table.cold_rows()) == sorted(latest)
