"""Which partitions past their age may stay because there is room on their disks."""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.retention.disks import Disk, Room
from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.tables.reader import parse_tables

ENTRY = {"source": "k2.a", "target": "cold.a", "layer": "bronze", "cursor": "at"}


def room(limit: float = 20.0) -> Room:
    """A full disk, and one with room."""
    disks = {"default": Disk(10, 100), "hdd": Disk(90, 100)}
    return Room(limit, disks, {"1": {"default": 6}, "2": {"default": 6}, "3": {"default": 6}, "4": {"hdd": 50}})


def test_partitions_go_until_there_is_room():
    disks = room()
    gone = []
    for name in ("1", "2", "3"):
        if disks.reason_to_stay([name]) is None:
            gone.append(name)
            disks.freed([name])
    # 10 % are free, then 16 %, then 22 %, though the disk itself may say so only minutes later.
    assert gone == ["1", "2"]
    assert disks.reason_to_stay(["3"]) == "22.0 % of disk default is free, and `when_free_below` is 20 %"


def test_a_partition_on_another_disk_stays():
    disks = room()
    assert disks.reason_to_stay(["4"]) == "90.0 % of disk hdd is free, and `when_free_below` is 20 %"
    # Rows on both are worth dropping.
    assert disks.reason_to_stay(["1", "4"]) is None


def test_the_limit_itself_is_room_enough():
    assert room(10.0).reason_to_stay(["1"]) is not None
    assert room(10.001).reason_to_stay(["1"]) is None


def test_a_disk_without_a_size_has_room():
    disks = Room(20.0, {"s3": Disk(0, 0)}, {"1": {"s3": 5}})
    assert disks.reason_to_stay(["1"]) is not None


@pytest.mark.parametrize(("text", "limit"), [("20 %", 20.0), ("7.5%", 7.5), ("99 %", 99.0)])
def test_the_share_is_read_and_written_back(text, limit):
    table = parse_tables({"tables": [{**ENTRY, "retention": {"keep": "7d", "when_free_below": text}}]}, "test").tables[
        0
    ]
    assert table.retention is not None
    assert table.retention.when_free_below == limit
    assert parse_tables({"tables": [to_entry(table)]}, "test").tables[0] == table


@pytest.mark.parametrize("text", ["0 %", "100 %", "20", 20, "-1 %", "% 20", "", None, True])
def test_anything_else_is_refused(text):
    with pytest.raises(TableListError, match=r"`when_free_below`\) is not a share of the disk.*like `20 %`"):
        parse_tables({"tables": [{**ENTRY, "retention": {"keep": "7d", "when_free_below": text}}]}, "test")
