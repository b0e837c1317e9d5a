"""Field ids in a footer written anew: everything else as it was, byte by byte."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.types import ListType, MapType

from airflow_provider_k2.engines.parquet_footer import (
    MAGIC,
    MalformedFileError,
    TailTooShortError,
    _Element,
    copy_with_field_ids,
    with_field_ids,
)
from airflow_provider_k2.engines.thrift import ThriftReader
from airflow_provider_k2.schema.type_plan import plan_types

KINDS = [
    "Int32",
    "Nullable(Int64)",
    "String",
    "UInt64",
    "Decimal(38, 8)",
    "DateTime",
    "Date",
    "UUID",
    "FixedString(3)",
    "Bool",
    "Array(String)",
    "Array(Array(Nullable(Int32)))",
    "Map(String, Int64)",
    "Map(String, Array(Map(Int32, String)))",
]


def schema_of(kinds):
    return plan_types("t", [(f"c{number}", kind) for number, kind in enumerate(kinds)], (), (), {}).schema()


def written(schema, rows=3, **options):
    """A Parquet file without field ids."""
    table = schema_to_pyarrow(schema, include_field_ids=False).empty_table()
    if rows:
        nothing = [pa.nulls(rows, field.type) for field in table.schema]
        table = pa.Table.from_arrays(nothing, schema=table.schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False, **options)
    return sink.getvalue()


def copied(file, schema, hold=1 << 20, chunk=None):
    sink = io.BytesIO()

    class Trickle(io.BytesIO):
        def read(self, size=-1):
            return super().read(chunk or size)

    return copy_with_field_ids(Trickle(file), sink, schema, hold), sink.getvalue()


def ids(schema_arrow):
    """Field ids as pyarrow reads them, nested ones included."""
    found = []

    def visit(field):
        found.append(int((field.metadata or {}).get(b"PARQUET:field_id", -1)))
        kind = field.type
        if pa.types.is_list(kind):
            visit(kind.value_field)
        elif pa.types.is_map(kind):
            visit(kind.key_field)
            visit(kind.item_field)

    for field in schema_arrow:
        visit(field)
    return found


def expected(schema):
    found = []

    def visit(number, kind):
        found.append(number)
        if isinstance(kind, ListType):
            visit(kind.element_id, kind.element_type)
        elif isinstance(kind, MapType):
            visit(kind.key_id, kind.key_type)
            visit(kind.value_id, kind.value_type)

    for field in schema.fields:
        visit(field.field_id, field.field_type)
    return found


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=40),
    rows=st.integers(0, 5),
    chunk=st.sampled_from([1, 7, 100, 5000, None]),
    hold=st.sampled_from([4000, 1 << 20]),
)
def test_every_column_gets_its_id_and_nothing_else_changes(kinds, rows, chunk, hold):
    schema = schema_of(kinds)
    file = written(schema, rows)
    try:
        told, result = copied(file, schema, hold, chunk)
    except TailTooShortError as error:
        told, result = copied(file, schema, error.needed, chunk)
    before, after = pq.ParquetFile(io.BytesIO(file)), pq.ParquetFile(io.BytesIO(result))
    assert after.read().equals(before.read())
    assert ids(after.schema_arrow) == expected(schema)
    assert told.size == len(result)
    # The footer alone is a file without data: what the manifest's statistics are made of.
    assert pq.read_metadata(io.BytesIO(told.tail)).to_dict() == {
        **before.metadata.to_dict(),
        "serialized_size": pq.read_metadata(io.BytesIO(result)).serialized_size,
    }
    length = int.from_bytes(file[-8:-4], "little")
    assert result[: len(file) - 8 - length] == file[: -8 - length]


def test_what_is_not_known_passes_through():
    """Another field of a newer format, of every type, before and behind the schema."""
    schema = schema_of(["Int32", "String"])
    file = written(schema)
    length = int.from_bytes(file[-8:-4], "little")
    footer = file[-8 - length : -8]
    fields = bytes.fromhex(
        "01"
        "c801"  # field 100 (long form): true
        "12"
        "13 7f"
        "14 03"
        "15 05"
        "16 09"  # 101 false, 102 byte, 103 to 105 integers
        "17 0102030405060708"
        "18 03 414243"  # a double, a binary
        "19 35 020406"
        "1a 21 0102"
        "1b 02 85 01 41 02 02 42 04"  # a list, a set of booleans, a map
        "1c 15 02 00"
        "1d 000102030405060708090a0b0c0d0e0f"
        "00".replace(" ", "")
    )
    assert footer.endswith(b"\0")
    result = with_field_ids(footer[:-1] + fields, schema)
    assert result.endswith(fields)
    assert result[: -len(fields)] + b"\0" == with_field_ids(footer, schema)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(1, 200).filter(lambda number: number not in (4, 9)), st.integers(0, 2**31), max_size=6)
)
def test_an_element_keeps_fields_that_are_not_known(extra):
    from airflow_provider_k2.engines.thrift import _I64, varint

    element = _Element({4: (8, b"\x01c"), **{number: (_I64, varint(value)) for number, value in extra.items()}})
    element.identify(70000)
    reader = ThriftReader(b"\x1c" + element.encode())
    (fields,) = reader.structs()
    found = _Element(fields)
    assert found.name == "c"
    assert {number: value for number, value in found.fields.items() if number not in (4, 9)} == {
        number: (_I64, varint(value)) for number, value in extra.items()
    }
    assert found.encode() == element.encode()
    assert reader.at == len(reader.data)


def test_bytes_are_no_text():
    file = written(schema_of(["String", "String", "Nullable(String)"]))
    names = [("c0", "String"), ("c1", "String"), ("c2", "Nullable(String)")]
    _, result = copied(file, plan_types("t", names, (), (), {"c1": "binary"}).schema())
    kinds = [str(field.type) for field in pq.ParquetFile(io.BytesIO(result)).schema_arrow]
    assert kinds == ["string", "binary", "string"]


def test_a_footer_longer_than_what_is_held_back_is_asked_for_again():
    schema = schema_of(["String"] * 300)
    file = written(schema)
    with pytest.raises(TailTooShortError) as told:
        copied(file, schema, hold=100, chunk=1000)
    again, _ = copied(file, schema, hold=told.value.needed, chunk=1000)
    assert again.size > len(file)


@pytest.mark.parametrize("keep", [1, 7, 50, -1, -4, -8, -60])
def test_a_stream_that_ends_early_is_no_file(keep):
    schema = schema_of(["Int32"])
    with pytest.raises(ValueError, match="ends"):
        copied(written(schema)[:keep], schema)


def test_a_footer_that_should_be_longer_than_the_file_is_not_waited_for():
    schema = schema_of(["Int32"])
    file = written(schema)[:-8] + (2**31).to_bytes(4, "little") + MAGIC
    for hold in (10, 10**6):
        with pytest.raises(MalformedFileError, match=r"should have 2,147,483,648 bytes"):
            copied(file, schema, hold=hold, chunk=100)


def test_the_end_of_what_is_no_file_is_shown():
    with pytest.raises(MalformedFileError, match=r"by '<html>a login page</html>'"):
        copied(b"<html>a\nlogin page</html>", schema_of(["Int32"]))
    with pytest.raises(MalformedFileError, match=r"by 'Code: 241. DB::Exception: no memory'"):
        copied(written(schema_of(["Int32"])) + b"\r\nCode: 241. DB::Exception: no memory\n", schema_of(["Int32"]))


def test_nothing_at_all_is_no_error():
    assert copied(b"", schema_of(["Int32"])) == (None, b"")


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["Int32"], "which the cold table does not have"),
        (["Int32", "Array(String)"], "of another shape"),
        (["Int32", "Map(String, String)"], "of another shape"),
    ],
)
def test_a_file_of_other_columns_is_refused(kinds, words):
    with pytest.raises(ValueError, match=words):
        copied(written(schema_of(["Int32", "String"])), schema_of(kinds))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_end_in_anything_but_an_error_that_is_told(garbage):
    file = MAGIC + garbage + len(garbage).to_bytes(4, "little") + MAGIC
    with pytest.raises((ValueError, TailTooShortError)):
        copied(file, schema_of(["Int32"]))
