"""What a commit takes out: where statistics end, nothing may be taken for fresh."""

from types import SimpleNamespace

from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from airflow_provider_k2.commit.bounds import cursor_ceiling
from airflow_provider_k2.windows import BEGINNING, LAST_CURSOR


def ceiling(**statistics):
    file = SimpleNamespace(**{"upper_bounds": None, "null_value_counts": None, "record_count": 2, **statistics})
    scan = SimpleNamespace(plan_files=lambda: [SimpleNamespace(file=file)])
    schema = Schema(NestedField(1, "n", LongType(), required=False))
    return cursor_ceiling(SimpleNamespace(schema=lambda: schema, scan=lambda: scan), "n")


def test_the_ceiling_of_a_cursor():
    assert ceiling(upper_bounds={1: (41).to_bytes(8, "little")}) == 42
    assert ceiling(null_value_counts={1: 2}) == BEGINNING


def test_a_file_without_statistics_may_hold_every_cursor():
    assert ceiling() > LAST_CURSOR
