"""The content checksum: three implementations agree, rows may come in any order, equal rows count twice."""

from __future__ import annotations

import decimal
import io
import random
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_k2.checksum import HIGH_MULTIPLIER, MASK, NULL_WORD, POSITION_MULTIPLIER, mix, salt
from airflow_provider_k2.checksum import cold as numpy_side
from airflow_provider_k2.checksum.warm import checksum_expression, row_expression
from airflow_provider_k2.schema.type_plan import TypePlan, plan_types

# Name, ClickHouse type, wished cold type.
COLUMNS = [
    ("b", "Bool", None),
    ("bn", "Nullable(Bool)", None),
    ("i8", "Int8", None),
    ("i16", "Int16", None),
    ("i32", "Int32", None),
    ("i64", "Int64", None),
    ("i64n", "Nullable(Int64)", None),
    ("u8", "UInt8", None),
    ("u16", "UInt16", None),
    ("u32", "UInt32", None),
    ("u64", "UInt64", None),
    ("u64n", "Nullable(UInt64)", None),
    ("u64w", "UInt64", "decimal(38, 0)"),
    ("i8d", "Int8", "decimal(5, 2)"),
    ("i32l", "Int32", "long"),
    ("d9", "Decimal(9, 3)", None),
    ("d18", "Decimal(18, 8)", None),
    ("d18w", "Decimal(18, 8)", "decimal(38, 8)"),
    ("d18s", "Decimal(18, 8)", "decimal(22, 12)"),
    ("d38", "Decimal(38, 10)", None),
    ("d38n", "Nullable(Decimal(38, 10))", None),
    ("f32", "Float32", None),
    ("f32w", "Float32", "double"),
    ("f64", "Float64", None),
    ("f64n", "Nullable(Float64)", None),
    ("dt", "Date", None),
    ("dt32", "Date32", None),
    ("dtt", "DateTime('Asia/Tokyo')", None),
    ("dt3", "DateTime64(3)", None),
    ("dt6", "DateTime64(6, 'UTC')", None),
    ("dt6n", "Nullable(DateTime64(6, 'America/New_York'))", None),
    ("s", "String", None),
    ("sn", "Nullable(String)", None),
    ("sb", "String", "binary"),
    ("ls", "LowCardinality(String)", None),
    ("lsn", "LowCardinality(Nullable(String))", None),
    ("fs", "FixedString(5)", None),
    ("e8", "Enum8('a' = -1, 'ü' = 2)", None),
    ("e16", "Enum16('a' = -1, 'long name' = 300)", None),
    ("u", "UUID", None),
    ("un", "Nullable(UUID)", None),
    ("ip4", "IPv4", None),
    ("ip6", "IPv6", None),
    ("arr", "Array(String)", None),
    ("arrn", "Array(Nullable(Int32))", None),
    ("arra", "Array(Array(UInt64))", None),
    ("arrd", "Array(Decimal(30, 4))", None),
    ("arre", "Array(Enum8('x' = 1, 'y' = 2))", None),
    ("arrt", "Array(DateTime64(3))", None),
    ("m", "Map(LowCardinality(String), String)", None),
    ("ml", "Map(String, Array(DateTime))", None),
    ("mm", "Map(UInt64, Map(String, Nullable(Int64)))", None),
]
ROWS = 400
SETTINGS = (
    "output_format_parquet_string_as_string = 1, output_format_parquet_fixed_string_as_fixed_byte_array = 1, "
    "engine_file_truncate_on_insert = 1"
)


@pytest.fixture(scope="module")
def everything(chdb):
    """A table with every supported type, its plan, and its rows as ClickHouse writes them to Parquet."""
    listed = ", ".join(f"`{name}` {kind}" for name, kind, _ in COLUMNS)
    chdb.query("CREATE DATABASE IF NOT EXISTS checksums")
    chdb.query(
        f"CREATE TABLE checksums.t ({listed}) ENGINE = MergeTree ORDER BY tuple() SETTINGS allow_nullable_key = 1"
    )
    structure = listed.replace("\\", "\\\\").replace("'", "\\'")
    chdb.query(f"INSERT INTO checksums.t SELECT * FROM generateRandom('{structure}', 7, 20, 4) LIMIT {ROWS}")
    # Two rows of defaults: zeros, empty strings, arrays and maps, and a second, equal row.
    chdb.query("INSERT INTO checksums.t (i8) VALUES (0), (0)")
    # Names only: chdb quotes types differently in TSV.
    kinds = [(name, kind) for name, kind, _ in COLUMNS]
    plan = plan_types("t", kinds, (), (), {name: wish for name, _, wish in COLUMNS if wish})
    selected = ", ".join(f"{column.expression} AS `k2_{column.name}`" for column in plan.columns)
    renamed = ", ".join(f"`k2_{name}` AS `{name}`" for name in plan.names)
    sql = f"SELECT {renamed} FROM (SELECT {selected} FROM checksums.t) SETTINGS {SETTINGS}"
    return plan, pq.ParquetFile(io.BytesIO(chdb.query(sql, "Parquet").bytes()))


@pytest.mark.parametrize("name", [name for name, _, _ in COLUMNS])
def test_clickhouse_and_numpy_agree_on_every_type(chdb, everything, name):
    plan, file = everything
    alone = TypePlan((plan[name],))
    warm = int(chdb.value(f"SELECT {checksum_expression(alone)} FROM checksums.t"))
    # Small batches: slices with offsets, and nulls in some of them only.
    assert numpy_side.checksum(file.iter_batches(37, columns=[name])) == (ROWS + 2, warm)


def test_clickhouse_and_numpy_agree_on_whole_rows(chdb, everything):
    plan, file = everything
    rows = chdb.value(f"SELECT arrayStringConcat(groupArray(toString({row_expression(plan)})), ',') FROM checksums.t")
    expected = [int(row) for row in rows.split(",")]
    table = pa.Table.from_batches(list(file.iter_batches(ROWS + 2))).combine_chunks()
    hashes = numpy_side.row_hashes(table.to_batches()[0])
    assert sorted(hashes.tolist()) == sorted(expected)
    assert len(set(expected)) == ROWS + 1, "the two equal rows have one hash, all others their own"


def test_extreme_values(chdb):
    cases = [
        ("Int64", ["-9223372036854775808", "9223372036854775807", "0", "-1"]),
        ("UInt64", ["18446744073709551615", "9223372036854775808", "0"]),
        (
            "Decimal(38, 0)",
            ["-99999999999999999999999999999999999999", "18446744073709551616", "-1", "9223372036854775808"],
        ),
        ("Decimal(38, 10)", ["-9999999999999999999999999999.9999999999", "0.0000000001"]),
        ("Float64", ["nan", "-nan", "inf", "-inf", "-0.0", "1e-320"]),
        ("DateTime64(6, 'UTC')", ["'1900-01-01 00:00:00.000001'", "'2299-12-31 23:59:59.999999'", "0"]),
        ("Date32", ["'1900-01-01'", "'2299-12-31'"]),
        ("String", ["''", r"'\0'", "'ü€😀'", "unhex('FF00FE')"]),
    ]
    for number, (kind, values) in enumerate(cases):
        chdb.query(f"CREATE TABLE checksums.x{number} (c {kind}) ENGINE = Memory")
        for value in values:
            chdb.query(
                f"INSERT INTO checksums.x{number} SELECT CAST({value}, '{kind.replace(chr(39), chr(92) + chr(39))}')"
            )
        plan = plan_types("t", [("c", kind)], (), (), {"c": "binary"} if kind == "String" else {})
        warm = int(chdb.value(f"SELECT {checksum_expression(plan)} FROM checksums.x{number}"))
        sql = f"SELECT {plan['c'].expression} AS c FROM (SELECT * FROM checksums.x{number}) SETTINGS {SETTINGS}"
        parquet = pq.ParquetFile(io.BytesIO(chdb.query(sql, "Parquet").bytes()))
        assert numpy_side.checksum(parquet.iter_batches()) == (len(values), warm), kind


@given(st.integers(0, MASK))
def test_mix_of_numpy_is_the_reference(value):
    assert int(numpy_side.mix(np.array([value], dtype=np.uint64))[0]) == mix(value)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, MASK))
def test_mix_of_clickhouse_is_the_reference(chdb, value):
    assert int(chdb.value(f"SELECT intHash64(toUInt64({value}))")) == mix(value)


def test_salt_is_the_name(chdb):
    assert salt("price") == int(chdb.value("SELECT xxHash64('price')")) != salt("quantity")


# A reference in plain Python, from the definition in the package's documentation, for Arrow's side.
# --------------------


def word(value, kind):
    if value is None:
        return NULL_WORD
    if pa.types.is_list(kind):
        parts = [mix((word(v, kind.value_type) + i * POSITION_MULTIPLIER) & MASK) for i, v in enumerate(value, 1)]
        return (sum(parts) + len(value)) & MASK
    if pa.types.is_map(kind):
        parts = [mix((mix(word(k, kind.key_type)) + word(v, kind.item_type)) & MASK) for k, v in value]
        return (sum(parts) + len(value)) & MASK
    if pa.types.is_decimal(kind):
        unscaled = int(value.scaleb(kind.scale, decimal.Context(prec=50)))
        low, high = unscaled & MASK, (unscaled >> 64) & MASK
        return (low + (high + (low >> 63)) * HIGH_MULTIPLIER) & MASK
    if pa.types.is_timestamp(kind):
        return round((value - datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC"))).total_seconds() * 10**6) & MASK
    if pa.types.is_date(kind):
        return (value - date(1970, 1, 1)).days & MASK
    if isinstance(value, str | bytes):
        return xxhash.xxh64_intdigest(value if isinstance(value, bytes) else value.encode())
    return int(value) & MASK


def reference(table):
    total = 0
    for row in table.to_pylist():
        columns = (mix(word(row[field.name], field.type) ^ salt(field.name)) for field in table.schema)
        total += mix(sum(columns) & MASK)
    return table.num_rows, total & MASK


SCHEMA = pa.schema(
    [
        ("i", pa.int32()),
        ("s", pa.string()),
        ("d", pa.decimal128(38, 4)),
        ("t", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("flag", pa.bool_()),
        ("l", pa.list_(pa.int64())),
        ("ll", pa.list_(pa.list_(pa.string()))),
        ("m", pa.map_(pa.string(), pa.decimal128(20, 0))),
        ("raw", pa.binary()),
    ]
)
MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=ZoneInfo("UTC")))
ROW = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**31), 2**31 - 1),
        "s": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        "d": st.none()
        | st.integers(-(10**37), 10**37).map(lambda n: decimal.Decimal(n).scaleb(-4, decimal.Context(prec=50))),
        "t": st.none() | MOMENTS,
        "day": st.none() | st.dates(),
        "flag": st.none() | st.booleans(),
        "l": st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=3),
        "ll": st.lists(st.lists(st.sampled_from(["", "a", None]), max_size=2), max_size=3),
        "m": st.none()
        | st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 2**64), max_size=3).map(
            lambda d: [(key, None if value is None else decimal.Decimal(value)) for key, value in d.items()]
        ),
        "raw": st.none() | st.binary(max_size=3),
    }
)
TABLES = st.lists(ROW, max_size=7).map(lambda rows: pa.Table.from_pylist(rows, SCHEMA))


@settings(max_examples=100, deadline=None)
@given(TABLES)
def test_numpy_follows_the_definition(table):
    assert numpy_side.checksum(table.combine_chunks().to_batches()) == reference(table)


@settings(max_examples=60, deadline=None)
@given(TABLES, st.randoms(use_true_random=False), st.integers(1, 4))
def test_order_slices_and_batches_do_not_matter(table, chance, size):
    whole = numpy_side.checksum(table.combine_chunks().to_batches())
    order = list(range(table.num_rows))
    chance.shuffle(order)
    assert numpy_side.checksum(table.take(pa.array(order, pa.int64())).to_batches()) == whole
    # Slices share buffers with the whole and begin at an offset, in nested arrays too.
    batch = table.combine_chunks().to_batches()
    slices = [part.slice(at, size) for part in batch for at in range(0, part.num_rows, size)]
    assert numpy_side.checksum(slices) == whole
    for part in slices:
        assert numpy_side.checksum([part]) == reference(pa.Table.from_batches([part]))


@settings(max_examples=60, deadline=None)
@given(TABLES.filter(lambda table: table.num_rows > 0), st.integers(0, 6))
def test_a_row_more_or_fewer_is_seen(table, at):
    """Also one that is there already: a checksum by exclusive or would not see a pair of equal rows."""
    extra = table.slice(at % table.num_rows, 1)
    before = numpy_side.checksum(table.combine_chunks().to_batches())[1]
    once = numpy_side.checksum(pa.concat_tables([table, extra]).combine_chunks().to_batches())[1]
    twice = numpy_side.checksum(pa.concat_tables([table, extra, extra]).combine_chunks().to_batches())[1]
    alone = numpy_side.checksum(extra.combine_chunks().to_batches())[1]
    assert (once - before) % 2**64 == (twice - once) % 2**64 == alone != 0


def of(**columns):
    return numpy_side.checksum(pa.table(columns).to_batches())[1]


def test_what_is_different_has_another_checksum():
    lists, maps = pa.list_(pa.int64()), pa.map_(pa.string(), pa.int64())
    assert of(a=[1, 2], b=[3, 4]) != of(a=[1, 2], b=[4, 3]), "values swapped between rows"
    assert of(a=[1], b=[2]) != of(a=[2], b=[1]), "values swapped between columns"
    assert of(a=[1]) != of(b=[1]), "another column"
    assert of(a=["x", ""]) != of(a=["x", None]), "null is not empty"
    assert of(a=[0]) != of(a=pa.array([None], pa.int64())), "null is not zero"
    assert of(a=pa.array([[1, 2]], lists)) != of(a=pa.array([[2, 1]], lists)), "order within an array"
    assert of(a=pa.array([[1], [2]], lists)) != of(a=pa.array([[1, 2], []], lists)), "which row an element is in"
    assert of(a=pa.array([[]], lists)) != of(a=pa.array([None], lists)), "an empty array is not null"
    assert of(a=pa.array([[None]], lists)) != of(a=pa.array([[]], lists))
    nested = pa.list_(lists)
    assert of(a=pa.array([[[1], [2]]], nested)) != of(a=pa.array([[[1, 2]]], nested)), "nesting"
    assert of(a=pa.array([[("x", 1)]], maps)) != of(a=pa.array([[("x", 2)]], maps))
    assert of(a=pa.array([[("x", 1), ("y", 2)]], maps)) == of(a=pa.array([[("y", 2), ("x", 1)]], maps)), "map order"
    assert of(a=pa.array([[("x", 1), ("y", 2)]], maps)) != of(a=pa.array([[("x", 2), ("y", 1)]], maps))
    tiny = decimal.Decimal(1).scaleb(-8)
    price = decimal.Decimal("61000.12345678")
    kind = pa.decimal128(18, 8)
    assert of(a=pa.array([price], kind)) != of(a=pa.array([price + tiny], kind)), "the last digit"


def test_one_flipped_bit_anywhere_is_seen():
    chance = random.Random(1)
    values = [chance.getrandbits(63) for _ in range(50)]
    before = of(a=values)
    for at in range(50):
        flipped = list(values)
        flipped[at] ^= 1 << chance.randrange(63)
        assert of(a=flipped) != before


def test_dictionary_arrays_and_large_types_are_their_values():
    values = ["b", None, "a", "b", ""]
    plain = of(a=values)
    encoded = pa.array(values).dictionary_encode()
    assert of(a=encoded) == plain
    assert of(a=encoded.slice(1, 3)) == of(a=values[1:4])
    assert of(a=pa.array(values, pa.large_string())) == plain
    assert of(a=pa.array([v and v.encode() for v in values], pa.binary())) == plain
    with_null = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 0]), pa.array(["b", None, "a"]))
    assert of(a=with_null) == of(a=["b", None, "a", "b"])


def test_an_undefined_type_is_an_error():
    with pytest.raises(TypeError, match="no checksum is defined"):
        of(a=pa.array([1], pa.duration("s")))
    assert numpy_side.checksum([]) == (0, 0)
