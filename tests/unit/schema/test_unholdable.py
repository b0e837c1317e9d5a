"""Which columns let values in that their cold type cannot hold."""

import pytest

from airflow_provider_k2.schema.type_plan import plan_types
from airflow_provider_k2.schema.unholdable import is_suspect, unholdable


@pytest.mark.parametrize(
    ("kind", "wish", "suspect"),
    [
        ("String", None, True),
        ("String", "binary", False),
        ("LowCardinality(Nullable(String))", None, True),
        ("Array(Nullable(String))", None, True),
        ("Map(String, Int8)", None, True),
        ("Array(Int8)", None, False),
        ("FixedString(3)", None, False),
        ("UInt64", None, False),
        # An Int64 is behind it: 19 digits.
        ("Decimal(18, 8)", None, True),
        ("Nullable(Decimal(18, 8))", "decimal(19, 8)", False),
        ("Decimal(18, 8)", "decimal(38, 8)", False),
        ("Decimal(18, 8)", "decimal(38, 28)", True),
        ("Decimal(9, 2)", "decimal(10, 2)", False),
        ("Decimal(10, 2)", "decimal(18, 2)", True),
        ("Decimal(38, 0)", None, True),
    ],
)
def test_columns_that_are_looked_into(kind, wish, suspect):
    plan = plan_types("t", [("c", kind)], (), (), {"c": wish} if wish else {})
    assert is_suspect(plan["c"]) == suspect
    assert bool(unholdable(plan)) == suspect


def test_the_largest_number_is_one_of_the_target():
    plan = plan_types("t", [("a", "Decimal(5, 2)"), ("b", "Decimal(3, 3)"), ("c", "Decimal(4, 0)")], (), (), {})
    assert [sql.split("toDecimal256('")[1].split(",")[0] for sql in (one.condition for one in unholdable(plan))] == [
        "999.99'",
        "0.999'",
        "9999'",
    ]
