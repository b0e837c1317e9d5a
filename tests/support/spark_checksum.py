"""The content checksum as Spark SQL, over the columns as Spark reads them from an Iceberg table.

An opinion of its own. Pure.

Needs ``spark.sql.ansi.enabled=false``: its arithmetic wraps around. Every step of ``mix`` is a level of sub-selects of
its own, because a step uses its operand twice: written as one expression, the text would double with every step.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from airflow_provider_k2.checksum import (
    HIGH_MULTIPLIER,
    MIX_MULTIPLY_1,
    MIX_MULTIPLY_2,
    MIX_XOR,
    NAN_WORD,
    NULL_WORD,
    POSITION_MULTIPLIER,
    salt,
)
from airflow_provider_k2.clickhouse.sql import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.schema.type_plan import TypePlan

SEED_TO_ZERO = -365884300664092260
"""Spark's ``xxhash64`` starts with seed 42 and takes each hash as the next value's seed: after this long it is 0."""


def checksum_query(plan: TypePlan, relation: str) -> str:
    """Query that yields the rows and the checksum (as a signed long) of a relation.

    :param plan: the columns; others of the relation do not count.
    :param relation: a table or view, as SQL.
    """
    rows = row_query([(column.name, column.target) for column in plan.columns], relation, "row_hash")
    return f"SELECT count(*) AS row_count, coalesce(sum(row_hash), 0L) AS checksum FROM ({rows})"


def row_query(
    columns: Sequence[tuple[str, IcebergType]], relation: str, hash_name: str, carried: Sequence[str] = ()
) -> str:
    """Query that yields the hash of every row of a relation, as a signed long.

    :param columns: names and types of the columns that count.
    :param relation: a table, view or sub-select, as SQL.
    :param hash_name: name of the hash; no column of the relation.
    :param carried: columns of the relation that the query yields besides.
    """
    beside = [quote_identifier(name) for name in carried]
    names = [f"_k2_w{number}" for number in range(len(columns))]
    words = [
        f"{word(quote_identifier(column), kind)} ^ {_long(salt(column) ^ MIX_XOR)} AS {name}"
        for name, (column, kind) in zip(names, columns, strict=True)
    ]
    query = f"SELECT {', '.join(beside + words)} FROM {relation}"
    query = _step(query, names, MIX_MULTIPLY_1, beside)
    query = _step(query, names, MIX_MULTIPLY_2, beside)
    row = _balanced([_fold(name) for name in names])
    query = f"SELECT {', '.join([*beside, f'({row}) ^ {_long(MIX_XOR)} AS _k2_w'])} FROM ({query})"
    query = _step(query, ["_k2_w"], MIX_MULTIPLY_1, beside)
    query = _step(query, ["_k2_w"], MIX_MULTIPLY_2, beside)
    return f"SELECT {', '.join([*beside, _fold('_k2_w') + f' AS {hash_name}'])} FROM ({query})"


def _balanced(terms: list[str]) -> str:
    """Sum in parentheses by groups: Spark's parser and analyser recurse as deep as a flat sum is long."""
    while len(terms) > 1:
        terms = [f"({' + '.join(terms[begin : begin + 32])})" for begin in range(0, len(terms), 32)]
    return terms[0]


def _step(query: str, names: list[str], multiplier: int, beside: list[str]) -> str:
    stepped = [f"{_fold(name)} * {_long(multiplier)} AS {name}" for name in names]
    return f"SELECT {', '.join(beside + stepped)} FROM ({query})"


def _fold(value: str) -> str:
    return f"({value} ^ shiftrightunsigned({value}, 33))"


def _long(unsigned: int) -> str:
    """Literal for 64 bits."""
    return f"({unsigned - 2**64 if unsigned >= 2**63 else unsigned}L)"


def word(value: str, kind: IcebergType, depth: int = 0) -> str:
    """Word of a value.

    :param value: its SQL.
    :param kind: its type in the Iceberg table.
    :param depth: how deep it is nested; tells the variables of lambdas apart.
    :raises TypeError: for a type that no type plan has.
    """
    return f"if(isnull({value}), {_long(NULL_WORD)}, {_word(value, kind, depth)})"


def _word(value: str, kind: IcebergType, depth: int) -> str:
    match kind:
        case BooleanType() | IntegerType() | LongType():
            return f"cast({value} AS bigint)"
        case FloatType() | DoubleType():
            bits = f"reflect('java.lang.Double', 'doubleToRawLongBits', cast({value} AS double))"
            return f"if(isnan({value}), {_long(NAN_WORD)}, cast({bits} AS bigint))"
        case TimestamptzType() | TimestampType():
            return f"unix_micros(cast({value} AS timestamp))"
        case DateType():
            return f"cast(unix_date({value}) AS bigint)"
        case DecimalType():
            return _decimal_word(value, kind.precision, kind.scale)
        case StringType() | BinaryType() | FixedType():
            return f"xxhash64({SEED_TO_ZERO}L, {value})"
        case UUIDType():
            # Spark reads a UUID as text; the word is of its 16 bytes.
            return f"xxhash64({SEED_TO_ZERO}L, unhex(replace({value}, '-', '')))"
        case ListType():
            x, i = f"x{depth}", f"i{depth}"
            position = f"cast({i} + 1 AS bigint) * {_long(POSITION_MULTIPLIER)}"
            element = f"{word(x, kind.element_type, depth + 1)} + {position}"
            mixed = _mix_all(f"transform({value}, ({x}, {i}) -> {element})")
            return f"({_sum(mixed)} + cast(size({value}) AS bigint))"
        case MapType():
            x = f"x{depth}"
            keys = _mix_all(f"transform(map_keys({value}), {x} -> {word(x, kind.key_type, depth + 1)})")
            values = f"transform(map_values({value}), {x} -> {word(x, kind.value_type, depth + 1)})"
            entries = _mix_all(f"zip_with({keys}, {values}, (a, b) -> a + b)")
            return f"({_sum(entries)} + cast(size({value}) AS bigint))"
    raise TypeError(f"no checksum is defined for Iceberg's {kind}")


def _mix_all(array: str) -> str:
    """Mix every element of an array of longs."""
    mixed = f"transform({array}, m -> m ^ {_long(MIX_XOR)})"
    for multiplier in (MIX_MULTIPLY_1, MIX_MULTIPLY_2):
        mixed = f"transform({mixed}, m -> {_fold('m')} * {_long(multiplier)})"
    return f"transform({mixed}, m -> {_fold('m')})"


def _sum(array: str) -> str:
    return f"aggregate({array}, 0L, (a, b) -> a + b)"


def _decimal_word(value: str, precision: int, scale: int) -> str:
    factor = f"{10**scale}BD"
    if precision <= 18:
        return f"cast({value} * {factor} AS bigint)" if scale else f"cast({value} AS bigint)"
    if scale > 37:
        # 10^38 is no decimal of Spark's.
        return _wide_decimal_word(value, scale)
    # Nearly every value is one word long. The product is a whole number of at most 19 digits: it is not rounded.
    low, high = (f"{Decimal(bound).scaleb(-scale):f}BD" for bound in (-(2**63), 2**63 - 1))
    return (
        f"if({value} BETWEEN {low} AND {high}, cast({value} * {factor} AS bigint), {_wide_decimal_word(value, scale)})"
    )


def _wide_decimal_word(value: str, scale: int) -> str:
    """Word of a decimal whose unscaled value may be longer than one word. Slow: some 10 microseconds."""
    # As text, because a product with the factor would need more than 38 digits and be rounded.
    unscaled = f"cast(translate(format_number({value}, {scale}), ',.', '') AS decimal(38, 0))" if scale else value
    # A cast of a decimal that is too large keeps the lower 64 bits.
    low = "cast(u AS bigint)"
    two64 = f"{2**64}BD"
    high = f"((u div {two64}) - if(u % {two64} < 0, 1L, 0L))"
    wide = f"{low} + ({high} + shiftrightunsigned({low}, 63)) * {_long(HIGH_MULTIPLIER)}"
    # A lambda, so that the unscaled value is made once.
    return f"transform(array({unscaled}), u -> {wide})[0]"
