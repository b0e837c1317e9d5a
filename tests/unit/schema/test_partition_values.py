"""The value of a partition, from ClickHouse's text to Iceberg's manifest, and the folder that it names."""

from __future__ import annotations

import math
import struct
import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    LongType,
    StringType,
    TimestamptzType,
    UUIDType,
)

from airflow_provider_k2.schema.partition_values import PATH_LENGTH, partition_folder, partition_value, short_folder
from airflow_provider_k2.tables.model import PartitionField

P = PartitionField("identity", "p")
ANY = "de02abc4-ba32-49dc-aa17-d7d67dedf381"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (StringType(), "", ""),
        (StringType(), "a\0b", "a\0b"),
        (LongType(), "-7", -7),
        (BooleanType(), "1", True),
        (BooleanType(), "0", False),
        (DecimalType(18, 8), "1.5", Decimal("1.50000000")),
        (DecimalType(38, 0), "-" + "9" * 38, Decimal("-" + "9" * 38)),
        (DateType(), "-25567", -25567),
        (TimestamptzType(), "1795651200000000", 1795651200000000),
        (FixedType(3), "00FF41", b"\x00\xffA"),
        (BinaryType(), "", b""),
        (UUIDType(), ANY, uuid.UUID(ANY)),
        (DoubleType(), str(struct.unpack("<Q", struct.pack("<d", -0.1))[0]), -0.1),
        (FloatType(), str(struct.unpack("<I", struct.pack("<f", 1.5))[0]), 1.5),
    ],
)
def test_a_value_is_exact(kind, text, value):
    found = partition_value(P, kind, text)
    assert found == value
    assert type(found) is type(value)
    assert partition_value(P, kind, None) is None
    if isinstance(value, Decimal):
        assert found.as_tuple().exponent == value.as_tuple().exponent


def test_not_a_number_is_one_value():
    assert math.isnan(partition_value(P, DoubleType(), str(0x7FF8000000000000)))
    assert math.isnan(partition_value(P, FloatType(), str(0x7FC00000)))


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("BTC", "p=BTC"),
        ("BTC/USD", "p=BTC%2FUSD"),
        ("50%", "p=50%25"),
        ("..", "p=.."),
        (None, "p=null"),
        ("", "p=%22%22"),
        ("資", "p=%E8%B3%87"),
    ],
)
def test_a_folder_tells_its_partition(text, folder):
    assert partition_folder([P], [text]) == folder


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=3000)), min_size=1, max_size=8))
def test_every_folder_is_one_that_storages_take(values):
    path = partition_folder([P] * len(values), values)
    assert len(path) <= PATH_LENGTH
    assert all(0 < len(folder) < 256 for folder in path.split("/"))
    assert path.isascii()
    assert path.isprintable()
    assert "%00" not in path


@settings(deadline=None)
@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_different_values_have_different_folders(one, other):
    assert (one == other) == (partition_folder([P], [one]) == partition_folder([P], [other]))


@settings(deadline=None)
@given(st.text(max_size=3000))
def test_what_another_library_names_is_made_short(text):
    assert len(short_folder(f"p={text}")) <= PATH_LENGTH


def test_the_folder_of_an_empty_text_has_a_name():
    """pyiceberg writes none, and SeaweedFS refuses it."""
    assert short_folder("day=2026-11-01/name=/kind=a+b") == "day=2026-11-01/name=%22%22/kind=a%20b"
