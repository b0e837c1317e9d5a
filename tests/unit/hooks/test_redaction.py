"""A catalog's URI may hold a password: no error, traceback or log line repeats it, whole or in pieces."""

from __future__ import annotations

import json
import logging
import traceback

import pytest

from airflow_provider_k2.exceptions import ServiceError
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.redaction import hide, secrets_of

WORD = "S3cretWord"
URIS = [
    "postgresql+psycopg2://user:{}@127.0.0.1:1/db",
    "postgresql+psycopg2://user:{}@127.0.0.1:notaport/db",
    "postgresql+psycopg2:/user:{}@127.0.0.1/db",
    "postgresql+nodriver://user:{}@127.0.0.1/db",
    # Not encoded, so that libraries take a part of the password for something else.
    "postgresql+psycopg2://user:x@{}@127.0.0.1:1/db",
    "postgresql+psycopg2://user:{}@x@127.0.0.1:1/db",
    "postgresql+psycopg2://user:x/{}@127.0.0.1:1/db",
    "postgresql+psycopg2://user:1:{}@127.0.0.1:1/db",
    "postgresql+psycopg2://user:x#{}?y@127.0.0.1:1/db",
    "postgresql+psycopg2://user:x%40{}@127.0.0.1:1/db",
    "postgresql+psycopg2://127.0.0.1:1/db?user=u&password={}",
    "postgresql+psycopg2://127.0.0.1:1/db?password={}&bogus=1",
    "mysql+pymysql://user:{}@127.0.0.1:1/db",
    "http://user:{}@127.0.0.1:1/",
    "http://user:{}[x@127.0.0.1:1/",
]


@pytest.mark.parametrize("where", ["host", "extra"])
@pytest.mark.parametrize("uri", URIS)
def test_no_error_repeats_a_uri_s_password(where, uri, monkeypatch, caplog):
    text = uri.format(WORD)
    extra = {"type": "rest" if text.startswith("http") else "sql", "warehouse": "file:///tmp/x"}
    connection = {"conn_type": "iceberg", "extra": extra} | ({"host": text} if where == "host" else {})
    extra |= {} if where == "host" else {"uri": text}
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_LEAK", json.dumps(connection))
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(ServiceError, match=r"'iceberg_leak' (cannot be reached|does not work)") as caught,
    ):
        IcebergTableHook("iceberg_leak").load("a.b")
    assert WORD not in "".join(traceback.format_exception(caught.value))
    assert WORD not in caplog.text


def test_what_is_masked(monkeypatch):
    masked = set()
    # Airflow itself hands over whole dictionaries.
    monkeypatch.setattr("airflow.sdk.log.mask_secret", lambda secret, *_: masked.add(str(secret)))
    extra = {
        "type": "rest",
        "credential": "client:S3cretWord",
        "s3.access-key-id": "AKIA123456",
        "headers": {"Authorization": "Bearer S3cretToken"},
        "uri": "http://me:p%40ss-word@127.0.0.1:1",
    }
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_LEAK", json.dumps({"conn_type": "iceberg", "extra": extra}))
    with pytest.raises(ServiceError):
        IcebergTableHook("iceberg_leak").load("a.b")
    assert masked >= {"S3cretWord", "client:S3cretWord", "AKIA123456", "Bearer S3cretToken", "p%40ss-word", "p@ss-word"}
    assert not masked & {"rest", "type", "me", "127.0.0.1"}


def test_words_that_are_no_secrets_stay():
    secrets = secrets_of(
        "http://127.0.0.1:8181", {"type": "rest", "warehouse": "s3://k2lake", "s3.endpoint": "http://a:1"}
    )
    assert secrets == frozenset()
    assert hide("http://127.0.0.1:8181 does not answer", secrets) == "http://127.0.0.1:8181 does not answer"


def test_the_longest_secret_is_hidden_first():
    assert hide("user:abcdefgh@host", {"abcd", "abcdefgh"}) == "user:***@host"
