"""The JSON Schema that editors check a table list by.

It knows the reader's keys, and never refuses what the reader takes.
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.tables.fields import DEFAULTABLE, FIELDS
from airflow_provider_k2.tables.reader import STANDARD_TABLES, parse_tables

SCHEMA = json.loads(Path(STANDARD_TABLES).with_name("schema.json").read_text(encoding="utf-8"))
ENTRY = {"source": "k2.a", "target": "cold.a", "layer": "bronze", "cursor": "c"}


def check(**entry: object) -> None:
    jsonschema.validate({"tables": [{**ENTRY, **entry}]}, SCHEMA, cls=jsonschema.Draft202012Validator)


def test_the_standard_list_is_valid() -> None:
    jsonschema.validate(yaml.safe_load(Path(STANDARD_TABLES).read_text(encoding="utf-8")), SCHEMA)


def test_its_keys_are_the_readers() -> None:
    assert set(SCHEMA["$defs"]["table"]["properties"]) == set(FIELDS)
    assert set(SCHEMA["properties"]["defaults"]["properties"]) == DEFAULTABLE
    assert all(key.get("description") for key in SCHEMA["$defs"]["table"]["properties"].values())


@pytest.mark.parametrize(
    "entry",
    [
        {"retention": "7d"},
        {"retention": {"keep": 3600, "ttl": "backstop", "may_lose": ["raw payload"]}},
        {"safety_lag": 0},
        {"mode": "upsert", "key": ["a", "b"], "event_time": "c"},
        {"partition": ["day(c)", "b", "identity( d )"]},
        {"columns": ["a", {"c": "long"}, "b"]},
        {"types": {"a": "decimal(38, 8)"}},
        {"start": -5},
        {"start": "2026-01-01T00:00:00+00:00"},
        {"exclude": ["x"]},
        {"accept_merges": True},
        {"engine": "spark"},
    ],
)
def test_what_the_reader_takes_is_valid(entry: dict[str, object]) -> None:
    parse_tables({"tables": [{**ENTRY, **entry}]}, "test")
    check(**entry)


@pytest.mark.parametrize(
    "entry",
    [
        {"cursr": "c"},
        {"layer": "iron"},
        {"mode": "merge"},
        {"key": "a"},
        {"partition": ["bucket(3, a)"]},
        {"safety_lag": "3 weeks"},
        {"window_rows": 0},
        {"retention": {"ttl": "hold"}},
        {"source": "a"},
        {"accept_merges": "yes"},
        {"engine": "flink"},
    ],
)
def test_a_mistake_is_seen_in_the_editor_too(entry: dict[str, object]) -> None:
    with pytest.raises(TableListError):
        parse_tables({"tables": [{**ENTRY, **entry}]}, "test")
    with pytest.raises(jsonschema.ValidationError):
        check(**entry)
