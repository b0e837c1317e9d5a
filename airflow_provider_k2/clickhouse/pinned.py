"""Settings under which all our queries run, whatever the user's profile says. No answer is cut, limited or changed.

Pure.

A run asks once which of them have another value (``system.settings``) and sends those with each query, plus a few
that guard the question itself. A server is not sent what it does not know, and a user who may change nothing
(``readonly = 1``) works as before as long as nothing has to be changed. All settings of ClickHouse 26.9 were
reviewed. Left alone on purpose:

* limits that end a query with an error (``max_rows_to_read``, ``max_execution_time``, ``max_result_rows``, ``force_*``
  ...): the error says so; its ``*_overflow_mode``, which may turn it into a silent cut, is pinned;
* what is intended to hide rows from a user (row policies, ``additional_table_filters``): hidden rows are counted
instead, see
  :mod:`airflow_provider_k2.warm.visibility`;
* how a query is run (threads, buffers, join algorithms, projections, caches of marks, the analyzer): its rows are the
  same;
* replicas that lag (``max_replica_delay_for_distributed_queries``, ``select_sequential_consistency``): rows that become
  visible late are found by reconciliation;
* the meaning of words in a view that somebody has to set (``union_default_mode`` and the like): without it, the view
  is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import quote_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Group:
    """Settings that are pinned for one reason.

    :param does: what another value does to an answer, for messages.
    :param values: name to value.
    :param must: whether a query is refused under another value that the user may not change; otherwise it is only
        reported.
    """

    does: str
    values: Mapping[str, str]
    must: bool = True


_STOPS = (
    "read",
    "read_leaf",
    "result",
    "timeout",
    "timeout_leaf",
    "group_by",
    "sort",
    "distinct",
    "join",
    "set",
    "transfer",
)


def _stop(what: str) -> str:
    base, leaf = what.removesuffix("_leaf"), "_leaf" if what.endswith("_leaf") else ""
    return f"{base}_overflow_mode{leaf}"


GROUPS = (
    Group("silently cuts an answer at a limit", {_stop(what): "throw" for what in _STOPS}),
    Group(
        "takes rows out of the answer to every query, or puts other columns in their place",
        {
            "limit": "0",
            "offset": "0",
            "page": "0",
            "filter": "",
            "select": "",
            "order": "",
            "sort": "",
            "additional_result_filter": "",
            "discard_query_data": "0",
            "partial_result_on_first_cancel": "0",
        },
    ),
    Group(
        "leaves out what shards, replicas, files or young parts hold",
        {
            "skip_unavailable_shards": "0",
            "max_skip_unavailable_shards_num": "0",
            "max_skip_unavailable_shards_ratio": "0",
            "ignore_cold_parts_seconds": "0",
            "engine_file_empty_if_not_exists": "0",
            "s3_ignore_file_doesnt_exist": "0",
            "azure_ignore_file_doesnt_exist": "0",
            "hdfs_ignore_file_doesnt_exist": "0",
        },
    ),
    Group(
        "reads a share of the rows for each replica, or some shards only, which is all of them only while they agree",
        {
            "optimize_skip_unused_shards": "0",
            "allow_experimental_parallel_reading_from_replicas": "0",
            "enable_parallel_replicas": "0",
            "parallel_replicas_count": "0",
            "parallel_replica_offset": "0",
            "automatic_parallel_replicas_mode": "0",
        },
        must=False,
    ),
    Group(
        "answers from an earlier time, or about",
        {
            "use_query_cache": "0",
            "query_cache_for_subqueries": "0",
            "optimize_trivial_approximate_count_query": "0",
            "count_distinct_implementation": "uniqExact",
            "iceberg_snapshot_id": "0",
            "iceberg_timestamp_ms": "0",
        },
    ),
    Group(
        "shows rows that are deleted, or rows as they were before an update",
        {"apply_deleted_mask": "1", "apply_patch_parts": "1"},
    ),
    Group(
        "shows one row of several, or several of one",
        {
            "final": "0",
            "distributed_group_by_no_merge": "0",
        },
    ),
    Group(
        "relies on constraints that rows may violate",
        {"optimize_using_constraints": "0", "optimize_substitute_columns": "0", "optimize_append_index": "0"},
    ),
    Group(
        "gives the words of our queries another meaning",
        {
            "dialect": "clickhouse",
            "prefer_column_name_to_alias": "0",
            "transform_null_in": "0",
            "group_by_use_nulls": "0",
            "aggregate_functions_null_for_empty": "0",
            "empty_result_for_aggregation_by_empty_set": "0",
            "empty_result_for_aggregation_by_constant_keys_on_empty_set": "1",
            "cast_keep_nullable": "0",
            "date_time_overflow_behavior": "ignore",
            "decimal_check_overflow": "1",
            "allow_lossy_numeric_supertype": "0",
            "enable_extended_results_for_datetime_functions": "0",
            "extremes": "0",
        },
        must=False,
    ),
    Group(
        "changes the bytes or the values of an answer on its way",
        {
            "format": "",
            "output_format": "",
            "framing_output_format": "None",
            "http_write_exception_in_output_format": "0",
            "output_format_parquet_date_as_uint16": "0",
            "output_format_parquet_datetime_as_uint32": "0",
            "output_format_parquet_unsupported_types_as_binary": "0",
            "output_format_parquet_compliant_nested_types": "1",
            "output_format_parquet_enum_as_byte_array": "1",
            "output_format_parquet_wide_integer_as_decimal": "0",
            "output_format_arrow_date_as_uint16": "0",
            "output_format_arrow_low_cardinality_as_dictionary": "0",
            "output_format_trim_fixed_string": "0",
            "output_format_decimal_trailing_zeros": "0",
            "output_format_float_precision": "0",
            "output_format_always_write_decimal_point_in_float_and_decimal": "0",
            "output_format_enable_streaming": "0",
            "bool_true_representation": "true",
            "bool_false_representation": "false",
            "date_time_output_format": "simple",
            "date_time_64_output_format_cut_trailing_zeros_align_to_groups_of_thousands": "0",
            "interval_output_format": "numeric",
        },
        must=False,
    ),
    Group(
        "gives a view other values, rows or columns than ClickHouse's own defaults do",
        {
            "session_timezone": "",
            "join_use_nulls": "0",
            "join_default_strictness": "ALL",
            "join_any_take_last_row": "0",
            "any_join_distinct_right_table_keys": "0",
            "data_type_default_nullable": "0",
            "least_greatest_legacy_null_behavior": "0",
            "cast_ipv4_ipv6_default_on_conversion_error": "0",
            "asterisk_include_alias_columns": "0",
            "asterisk_include_materialized_columns": "0",
            "asterisk_include_virtual_columns": "0",
            "do_not_merge_across_partitions_select_final": "0",
            "use_skip_indexes_if_final_exact_mode": "1",
            "totals_mode": "after_having_exclusive",
        },
        must=False,
    ),
)

PINNED: dict[str, str] = {name: value for group in GROUPS for name, value in group.values.items()}

FILTERS = "additional_table_filters"
"""A setting that may hide rows on purpose: it is reported, not overridden."""

QUESTION = (
    "SELECT name, value, readonly FROM system.settings WHERE name IN "
    f"({', '.join(map(quote_string, [*sorted(PINNED), FILTERS]))}) ORDER BY name"
)
"""What a server is asked once: names, values as text, and whether the user may not change them."""

GUARDS: dict[str, str] = {**GROUPS[0].values, "limit": "0", "offset": "0", "use_query_cache": "0"}
"""Settings that go with the question itself, whose answer must not be cut either, and therefore with every query.

What the profile says about them cannot be seen then. On the native protocol, a server ignores those that it does not

know."""


FIXED_CODES = (164, 452)
"""READONLY and SETTING_CONSTRAINT_VIOLATION: the answer to a user who may not change a setting."""


@dataclass(frozen=True)
class Stuck:
    """A setting with another value than the pinned one, which the user may not change.

    :param does: what it does to an answer.
    :param must: whether no query may run under it.
    """

    name: str
    value: str
    wanted: str
    does: str
    must: bool

    def __str__(self) -> str:
        return f"`{self.name} = {self.value!r}`, which {self.does} (it has to be {self.wanted!r})"


@dataclass(frozen=True)
class Pins:
    """What has to be sent with each query of a user, and what cannot be sent.

    :param send: name to value.
    :param stuck: what the profile does not let change.
    :param filters: its `additional_table_filters`; empty without any.
    """

    send: Mapping[str, str]
    stuck: tuple[Stuck, ...] = ()
    filters: str = ""


def decide(answer: Iterable[tuple[str, str, int]], *, guarded: bool = True) -> Pins:
    """Find out what has to be sent.

    :param answer: what a server said to :data:`QUESTION`; settings that it does not know are not in it.
    :param guarded: whether :data:`GUARDS` went with the question.
    """
    send: dict[str, str] = {}
    stuck: list[Stuck] = []
    filters = ""
    for name, value, readonly in answer:
        if name == FILTERS:
            filters = "" if value == "{}" else value
            continue
        wanted = PINNED[name]
        if guarded and name in GUARDS:
            send[name] = wanted
            continue
        if value == wanted:
            continue
        if not readonly:
            send[name] = wanted
            continue
        group = next(group for group in GROUPS if name in group.values)
        stuck.append(Stuck(name, value, wanted, group.does, group.must))
    return Pins(send, tuple(stuck), filters)
