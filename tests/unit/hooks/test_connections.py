"""ClickHouse connections: both forms, any type, extras as forms save them; and what the form says."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_k2.exceptions import ServiceError
from airflow_provider_k2.get_provider_info import CONNECTION_FORM, get_provider_info
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.clickhouse_connection import read_endpoints


def read(port: int | None = None, **extra: Any) -> Any:
    """Endpoints of a connection; what is no argument of its own is an extra."""
    return read_endpoints(
        SimpleNamespace(
            conn_id="c", conn_type="any", host="h", port=port, login="u", password="p", schema="d", extra_dejson=extra
        )
    )


@pytest.mark.parametrize(
    ("port", "extra", "ports"),
    [
        (None, {}, (9000, 8123)),
        (9000, {}, (9000, 8123)),
        (8123, {}, (9000, 8123)),
        (9001, {"http_port": 8124}, (9001, 8124)),
        (8124, {"native_port": 9001}, (9001, 8124)),
        (9001, {"native_port": 9001}, (9001, 8123)),
        (9001, {"native_port": "9001", "http_port": "8124"}, (9001, 8124)),
        (9440, {}, (9440, 8443)),
        (8443, {}, (9440, 8443)),
        (None, {"secure": True}, (9440, 8443)),
        (18443, {"native_port": 19440, "secure": "true"}, (19440, 18443)),
    ],
)
def test_the_port_is_one_protocols_and_the_other_one_is_known_or_named(port, extra, ports):
    found = read(port, **extra)
    assert (found.native_port, found.http_port) == ports


@pytest.mark.parametrize("empty", [None, ""])
def test_a_field_of_the_form_that_is_left_empty_is_not_given(empty):
    """Airflow 3's form saves null, 2.11's may save an empty text."""
    names = CONNECTION_FORM["conn-fields"]
    for port in (None, 9000, 8123, 9440, 8443):
        assert read(port, **dict.fromkeys(names, empty)) == read(port)
    assert read(8443, **dict.fromkeys(names, empty)).secure


@pytest.mark.parametrize(
    ("value", "said"), [(False, False), ("False", False), (" no ", False), (0, False), (True, True)]
)
def test_flags(value, said):
    assert read(8443, secure=value).secure is said
    assert read(8443, verify=value).verify is said


@pytest.mark.parametrize("name", ["http_port", "native_port"])
@pytest.mark.parametrize("value", ["http", 0, 70_000, -1, 1.5, True, [8123]])
def test_a_port_that_is_none_is_said_with_its_connection(name, value):
    with pytest.raises(
        ServiceError, match=rf"extra `{name}: .*` of connection 'c' is no port. Nothing was moved; write"
    ):
        read(9000, **{name: value})


def test_the_connection_type_is_our_own():
    """`clickhouse` is the official provider's: whoever registers it second is ignored."""
    (kind,) = get_provider_info()["connection-types"]
    assert kind["connection-type"] == ClickHouseHook.conn_type == "k2_clickhouse"


def test_the_form_of_3_2_and_that_of_2_11_say_the_same():
    (kind,) = get_provider_info()["connection-types"]
    behaviour = ClickHouseHook.get_ui_field_behaviour()
    assert behaviour == {
        "hidden_fields": kind["ui-field-behaviour"]["hidden-fields"],
        "relabeling": kind["ui-field-behaviour"]["relabeling"],
        "placeholders": kind["ui-field-behaviour"]["placeholders"],
    }
    types = {name: field["schema"]["type"][0] for name, field in kind["conn-fields"].items()}
    assert types == {
        "http_port": "integer",
        "native_port": "integer",
        "secure": "boolean",
        "verify": "boolean",
        "ca_certs": "string",
    }
    json.dumps(kind)
