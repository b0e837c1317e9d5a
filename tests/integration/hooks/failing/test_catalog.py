"""Iceberg catalogs that fail: silent, busy, behind a proxy that answers, without the table or its namespace."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.cli.main import app
from airflow_provider_k2.exceptions import (
    CATALOG,
    LEDGER,
    STORE,
    CommitUnknownError,
    ServiceError,
    TableChangedError,
    WatermarkError,
)
from airflow_provider_k2.hooks import iceberg as iceberg_module
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.ledger.tools import WatermarkTools
from airflow_provider_k2.local.services.seaweedfs import PROBE_BUCKET
from airflow_provider_k2.offload.repartition import repartition
from airflow_provider_k2.operators.reconcile import ReconcileOperator
from airflow_provider_k2.reconciliation import results
from airflow_provider_k2.tables.model import to_entry
from tests.faults.http_proxy import COMMIT, Answer, Ask, HttpProxy
from tests.integration.hooks.failing.support import ACTS, Interfering, fails, said
from tests.integration.hooks.failing.test_store import DENIED, FULL, READS, WRITES, asks
from tests.integration.pair import day
from tests.support.tasks import TaskRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.local import LocalSystem
    from tests.integration.retention.support import Gated

LOG = logging.getLogger(__name__)
HTML = (("Content-Type", "text/html"),)


def page(status: int, title: str) -> Answer:
    """What a proxy answers by itself."""
    body = f"<!DOCTYPE html>\n<html>\n<head><title>{title}</title></head>\n<body><h1>{title}</h1></body>\n</html>\n"
    return Answer(status, body.encode(), HTML)


def words(status: int, kind: str) -> Answer:
    """What a catalog answers."""
    error = {"message": "as the test wants it", "type": kind, "code": status}
    return Answer(status, json.dumps({"error": error}).encode())


ANSWERS = [
    pytest.param(
        words(429, "TooManyRequests"), "accepts no more requests for now", "an Airflow pool", id="429 of the catalog"
    ),
    pytest.param(
        page(429, "429 Too Many Requests"), "a web page ('429 Too Many Requests')", "an Airflow pool", id="429 page"
    ),
    pytest.param(page(200, "Log in"), "a web page ('Log in')", "correct `host`", id="200 page"),
    pytest.param(page(404, "404 Not Found"), "status 404 by a web page", "correct `host`", id="404 page"),
    pytest.param(page(403, "Forbidden"), "status 403 by a web page", "let this host in", id="403 page"),
    pytest.param(page(502, "502 Bad Gateway"), "status 502 by a web page", "load balancer", id="502 page"),
    pytest.param(page(504, "Gateway Time-out"), "status 504 by a web page", "load balancer", id="504 page"),
    pytest.param(
        Answer(503, b"upstream connect error", HTML), "upstream connect error", "load balancer", id="503 text"
    ),
    pytest.param(Answer(200, b""), "answers by nothing", "correct `host`", id="200 empty"),
    pytest.param(Answer(403, b'{"message": "no"}'), "does not allow it", "right", id="403 in words of its own"),
    pytest.param(words(404, "NotFoundException"), "does not know", "`warehouse`", id="404 of the catalog"),
    pytest.param(words(501, "NotImplemented"), "cannot do", "newer version", id="501"),
]
"""Answers, what is said of them, and the fix."""


@pytest.fixture
def behind(altered: Any, proxies: Any, system: LocalSystem) -> Callable[..., Any]:
    """A proxy before the catalog, and a hook that goes over it: ``behind(meant, answer)``."""

    def make(meant: Callable[[Ask], bool], given: Answer | None) -> tuple[IcebergTableHook, Interfering]:
        proxy = proxies(Interfering(system.seaweedfs.port, meant, given))
        return IcebergTableHook(altered("iceberg_default", host=f"http://127.0.0.1:{proxy.port}")), proxy

    return make


def of_table(pair: Gated) -> Callable[[Ask], bool]:
    return lambda ask: f"/tables/{pair.name}" in ask.path


def commits(ask: Ask) -> bool:
    return ask.method == "POST" and COMMIT.match(ask.path) is not None and b"set-snapshot-ref" in ask.body


# Before anything moves


@pytest.mark.parametrize("act", ACTS)
def test_it_takes_the_connection_and_says_nothing(
    pair: Gated, altered: Any, silent_port: int, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg_module, "CATALOG_TIMEOUT", 1)
    pair.iceberg = IcebergTableHook(altered("iceberg_default", host=f"http://127.0.0.1:{silent_port}"))
    started = time.monotonic()
    said(fails(pair, act, CATALOG), "does not answer in time", "the catalog's log")
    assert time.monotonic() - started < 30


def test_the_server_of_tokens_says_nothing(
    pair: Gated, altered: Any, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg_module, "CATALOG_TIMEOUT", 1)
    silent = f"http://127.0.0.1:{silent_port}/token"
    extra = {"oauth2-server-uri": silent, "credential": "id:secret", "rest.sigv4-enabled": "false"}
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra=extra))
    said(fails(pair, "offload", CATALOG), "does not answer in time", "the catalog's log")


def oauth(token_url: str) -> dict[str, Any]:
    config = {"client_id": "id", "client_secret": "hunter2-of-the-test", "token_url": token_url, "scope": "catalog"}
    return {"auth": {"type": "oauth2", "oauth2": config}, "rest.sigv4-enabled": "false"}


def test_the_other_server_of_tokens_says_nothing(
    pair: Gated, altered: Any, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg_module, "CATALOG_TIMEOUT", 1)
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra=oauth(f"http://127.0.0.1:{silent_port}/token")))
    said(fails(pair, "offload", CATALOG), "does not answer in time", "the catalog's log")


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        (Answer(401, b'{"error": "invalid_client"}'), "does not accept the credentials", "correct `credential`"),
        (Answer(200, b'{"access_token": "t"}'), "does not say when one ends", "check it"),
        (page(502, "502 Bad Gateway"), "fails", "the catalog's log"),
    ],
    ids=["401", "without an end", "502"],
)
def test_the_server_of_tokens_refuses(
    pair: Gated, altered: Any, proxies: Any, given: Answer, what: str, fix: str
) -> None:
    proxy = proxies(Interfering(1, lambda ask: True, given))
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra=oauth(f"http://127.0.0.1:{proxy.port}/token")))
    error = fails(pair, "offload", CATALOG)
    said(error, what, fix)
    assert "hunter2" not in str(error)


def test_a_token_goes_with_every_request_until_it_ends(pair: Gated, altered: Any, proxies: Any) -> None:
    seen: list[tuple[str, str]] = []

    class Tokens(HttpProxy):
        def answer(self, ask: Ask) -> Answer:
            seen.append((ask.path.partition("?")[0], dict(ask.headers).get("Authorization", "")))
            if ask.path == "/token":
                assert ask.body == b"grant_type=client_credentials&scope=catalog"
                return Answer(200, json.dumps({"access_token": f"t{len(seen)}", "expires_in": 600}).encode())
            return Answer(200, b'{"defaults": {}, "overrides": {}}') if "config" in ask.path else Answer(404)

    proxy = proxies(Tokens(1))
    at = f"http://127.0.0.1:{proxy.port}"
    hook = IcebergTableHook(altered("iceberg_default", host=at, extra=oauth(f"{at}/token")))
    for _ in range(2):
        assert hook.load("cold.orders") is None
    (token, config, second, *rest) = seen
    assert token[0] == "/token"
    assert token[1].startswith("Basic ")
    assert config == ("/v1/config", "Bearer t1")
    assert second[0] == "/token", "the library makes a session, and a source of tokens, for its configuration alone"
    assert {authorization for _, authorization in rest} == {"Bearer t3"}
    assert len(rest) == 2


def test_other_users_of_the_library_keep_their_own_catalogs(iceberg: IcebergTableHook) -> None:
    from airflow.providers.apache.iceberg.hooks.iceberg import IcebergHook
    from pyiceberg.catalog.rest import RestCatalog

    assert isinstance(iceberg.catalog, RestCatalog)
    assert type(IcebergHook("iceberg_default").catalog) is RestCatalog


@pytest.mark.parametrize(("given", "what", "fix"), ANSWERS)
def test_what_answers_to_the_first_request(pair: Gated, behind: Any, given: Answer, what: str, fix: str) -> None:
    pair.iceberg, proxy = behind(lambda ask: "/v1/config" in ask.path, given)
    error = fails(pair, "offload", CATALOG)
    assert proxy.strikes
    said(error, what, fix)
    assert "ValidationError" not in str(error)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("given", [page(200, "Log in"), page(404, "404 Not Found"), page(502, "502 Bad Gateway")])
def test_a_web_page_in_place_of_a_table(moved: Gated, behind: Any, act: str, given: Answer) -> None:
    """A page of status 404 is no word of the catalog's that the table does not exist."""
    moved.iceberg, proxy = behind(of_table(moved), given)
    error = fails(moved, act, CATALOG)
    assert proxy.strikes
    assert "a web page" in error.what


# While a window is committed


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        pytest.param(page(200, "Log in"), "a web page ('Log in')", "correct `host`", id="200 page"),
        pytest.param(page(404, "404 Not Found"), "status 404 by a web page", "correct `host`", id="404 page"),
        pytest.param(page(413, "Too Large"), "status 413 by a web page", "correct `host`", id="413 page"),
        pytest.param(words(413, "TooLarge"), "no request of that size", "expire the table's old snapshots", id="413"),
        pytest.param(words(429, "TooManyRequests"), "no more requests for now", "an Airflow pool", id="429"),
        pytest.param(page(502, "502 Bad Gateway"), "status 502 by a web page", "load balancer", id="502 page"),
    ],
)
def test_what_answers_to_a_commit(
    moved: Gated, behind: Any, given: Answer, what: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_k2.commit.attempt.COMMIT_TRIES", 3)
    moved.iceberg, proxy = behind(commits, given)
    error = fails(moved, "offload", CATALOG, window=True)
    assert proxy.strikes
    said(error, what, fix)
    assert "nothing was committed" in str(error.untouched).lower()
    moved.iceberg = IcebergTableHook()
    assert moved.cold.scan().count() == 20


@pytest.mark.parametrize("given", [page(200, "Log in"), words(401, "NotAuthorized")], ids=["200 page", "401"])
def test_a_clear_answer_to_the_look_up_is_not_asked_for_again(moved: Gated, behind: Any, given: Answer) -> None:
    """The commit lands, its answer is lost, and from then on something else answers."""
    state = {"landed": False}
    moved.iceberg, proxy = behind(lambda ask: state["landed"] and of_table(moved)(ask), given)
    forward = proxy.forward

    def answer(ask: Ask) -> Answer | None:
        if proxy.meant(ask):
            return given
        found = forward(ask)
        if commits(ask):
            state["landed"] = True
            return None
        return found

    proxy.answer = answer
    started = time.monotonic()
    error = fails(moved, "offload", CATALOG, window=True, kind=CommitUnknownError)
    assert time.monotonic() - started < 30
    assert "it is unknown whether window" in error.what
    assert "a web page" in error.what or "does not accept the credentials" in error.what
    moved.iceberg = IcebergTableHook()
    assert moved.cold.scan().count() == 40
    moved.offload()
    assert moved.cold.scan().count() == 40


def test_the_table_is_dropped_before_its_commit(moved: Gated, behind: Any, caplog: pytest.LogCaptureFixture) -> None:
    plain = IcebergTableHook()
    moved.iceberg, proxy = behind(lambda ask: False, None)
    forward = proxy.forward

    def answer(ask: Ask) -> Answer | None:
        if commits(ask):
            plain.catalog.drop_table(moved.config.target)
        return forward(ask)

    proxy.answer = answer
    started = time.monotonic()
    error = fails(moved, "offload", CATALOG, kind=WatermarkError)
    assert time.monotonic() - started < 30
    said(error, "does not exist any more", f"`k2 watermarks reset {moved.name}`")
    assert re.search(r"the cold table \S+ was dropped while window \S+ was committed", caplog.text)


@pytest.mark.parametrize("given", [page(404, "404 Not Found"), page(200, "Log in"), words(429, "TooManyRequests")])
def test_what_answers_in_the_middle_of_a_run(moved: Gated, behind: Any, given: Answer) -> None:
    """A page of status 404 is no table that is gone."""
    loads: list[str] = []

    def later(ask: Ask) -> bool:
        if ask.method == "GET" and of_table(moved)(ask):
            loads.append(ask.path)
        return len(loads) > 1 and of_table(moved)(ask)

    moved.iceberg, proxy = behind(later, given)
    error = fails(moved, "offload", CATALOG, window=True)
    assert proxy.strikes
    assert "gone" not in error.what
    assert "a web page" in error.what or "no more requests" in error.what
    moved.iceberg = IcebergTableHook()
    assert moved.cold.scan().count() == 20


# The place


@pytest.mark.parametrize("act", ["verify", "gate"])
@pytest.mark.parametrize(
    ("entry", "extra", "what"),
    [
        pytest.param({"target": "no_such_place.orders"}, {}, "no namespace 'no_such_place'", id="namespace"),
        pytest.param({}, {"warehouse": "s3://nosuchwarehouse"}, "warehouse 's3://nosuchwarehouse'", id="warehouse"),
    ],
)
def test_an_unknown_place_is_no_table_that_is_not_there_yet(
    pair: Gated, altered: Any, act: str, entry: dict[str, str], extra: dict[str, str], what: str
) -> None:
    pair.entry |= {name: value.replace("orders", pair.name) for name, value in entry.items()}
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra=extra))
    said(fails(pair, act, CATALOG), what, "correct `target` in the table list, or `warehouse` in the connection")


def test_an_offload_does_not_advise_to_begin_anew_in_an_unknown_warehouse(moved: Gated, altered: Any) -> None:
    moved.iceberg = IcebergTableHook(altered("iceberg_default", extra={"warehouse": "s3://nosuchwarehouse"}))
    error = fails(moved, "offload", CATALOG)
    said(error, "no namespace 'cold' in its warehouse 's3://nosuchwarehouse'", "`warehouse` in the connection")
    assert "reset" not in str(error)


def test_a_first_offload_to_an_unknown_warehouse_is_told(pair: Gated, altered: Any) -> None:
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra={"warehouse": "s3://nosuchwarehouse"}))
    said(fails(pair, "offload", CATALOG), "nosuchwarehouse", "`warehouse` of the connection")


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param(lambda tools, table: tools.rebuild(table), id="rebuild"),
        pytest.param(lambda tools, table: tools.set(table, 0), id="set"),
        pytest.param(
            lambda tools, table: repartition(table, tools.iceberg, tools.ledger, who="test", log=LOG), id="repartition"
        ),
    ],
)
def test_tools_change_nothing_in_an_unknown_warehouse(moved: Gated, altered: Any, tool: Callable[..., Any]) -> None:
    stored = moved.ledger.watermark(moved.config)
    wrong = IcebergTableHook(altered("iceberg_default", extra={"warehouse": "s3://nosuchwarehouse"}))
    tools = WatermarkTools(Services(moved.clickhouse, wrong, moved.ledger), who="test", reason="test")
    with pytest.raises(ServiceError, match="no namespace 'cold' in its warehouse 's3://nosuchwarehouse'"):
        tool(tools, moved.config)
    assert moved.ledger.watermark(moved.config) == stored


def test_a_look_up_finds_the_table_gone(moved: Gated) -> None:
    cold = moved.cold
    moved.iceberg.catalog.drop_table(moved.config.target)
    with pytest.raises(TableChangedError, match="was dropped while window w1 was committed"):
        moved.iceberg.look_up_commit(cold, "w1")


# What stands beside the offload


def test_a_web_page_is_no_mistake_in_the_partition_spec(moved: Gated, behind: Any) -> None:
    """What cannot be read of an answer is a ValueError, as is a spec that Iceberg does not take."""
    moved.entry["partition"] = ["symbol"]
    wrong, proxy = behind(lambda ask: ask.method == "POST" and f"/tables/{moved.name}" in ask.path, page(200, "Log in"))
    with pytest.raises(ServiceError) as caught:
        repartition(moved.config, wrong, moved.ledger, who="test", log=LOG)
    assert proxy.strikes
    assert (caught.value.service, caught.value.table) == (CATALOG, moved.name)
    said(caught.value, "a web page ('Log in')", "correct `host`")
    assert "k2 repartition --dry-run" in str(caught.value.untouched)


def test_a_gate_that_cannot_write_a_deletion_down_says_why(moved: Gated, behind: Any) -> None:
    """And drops nothing."""
    moved.iceberg, proxy = behind(
        lambda ask: ask.method == "POST" and b"k2.dropped." in ask.body, page(502, "502 Bad Gateway")
    )
    report = moved.gate()
    assert proxy.strikes
    assert report.dropped == []
    assert "status 502 by a web page ('502 Bad Gateway')" in report.kept[0].why
    assert "load balancer in front of the catalog" in report.kept[0].why
    assert moved.warm_rows() == 40


def test_a_tool_names_the_table_that_a_service_failed(
    moved: Gated, altered: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = tmp_path / "tables.yaml"
    tables.write_text(json.dumps({"pipeline": "test", "tables": [to_entry(moved.config)]}))
    wrong = altered("clickhouse_default", password="wrong")
    arguments = ["watermarks", "rebuild", "--tables", str(tables), "--clickhouse-conn-id", wrong]
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert ended.value.code == 2
    assert f"{moved.name}: ClickHouse (connection '{wrong}') refuses a query" in capsys.readouterr().err


@pytest.mark.parametrize("act", ["clickhouse", "ledger"])
def test_the_operator_names_the_table_whatever_it_asks_first(moved: Gated, altered: Any, act: str) -> None:
    """It asks ClickHouse for the time before anything is compared."""
    ids = {
        "clickhouse": {"clickhouse_conn_id": altered("clickhouse_default", password="wrong")},
        "ledger": {"watermark_conn_id": altered("postgres_default", password="wrong")},
    }[act]
    with pytest.raises(ServiceError) as caught:
        TaskRun().of(ReconcileOperator(task_id="reconcile", table=to_entry(moved.config), days=1, **ids))
    assert caught.value.table == moved.name
    assert str(caught.value).startswith(f"{moved.name}: ")


def test_a_result_that_the_ledger_does_not_take_names_the_table(
    moved: Gated, monkeypatch: pytest.MonkeyPatch, altered: Any
) -> None:
    away = WatermarkHook(altered("postgres_default", port=1))
    store = results.store
    monkeypatch.setattr(results, "store", lambda ledger, *rest: store(away, *rest))
    with pytest.raises(ServiceError, match="cannot be reached") as caught:
        TaskRun().of(ReconcileOperator(task_id="reconcile", table=to_entry(moved.config), days=None))
    assert (caught.value.service, caught.value.table) == (LEDGER, moved.name)


# Catalogs that are no REST catalogs


@pytest.mark.parametrize(
    ("code", "what", "fix"),
    [
        ("AccessDeniedException", "does not allow it", "give the connection's user the right"),
        ("UnrecognizedClientException", "does not accept the credentials", "the keys in the connection"),
        ("ThrottlingException", "accepts no more requests for now", "an Airflow pool"),
        ("InvalidInputException", "refuses the request", "correct what it names"),
        (None, "cannot be reached", "check host and port"),
    ],
)
def test_glue_is_a_catalog_and_no_store(
    pair: Gated, proxies: Any, monkeypatch: pytest.MonkeyPatch, closed_port: int, code: str | None, what: str, fix: str
) -> None:
    """It is asked by the library that also asks S3; its answers here are those of its wire protocol."""
    body = json.dumps({"__type": code, "message": "as the test wants it"}).encode()
    proxy = proxies(Interfering(1, lambda ask: True, Answer(400, body, (("x-amzn-errortype", str(code)),))))
    extra = {
        "type": "glue",
        "glue.endpoint": f"http://127.0.0.1:{proxy.port if code else closed_port}",
        "glue.region": "us-east-1",
        "glue.access-key-id": "key",
        "glue.secret-access-key": "secret",
        "glue.max-retries": 1,
        "warehouse": "s3://lake",
    }
    monkeypatch.setenv("AIRFLOW_CONN_GLUE", json.dumps({"conn_type": "iceberg", "extra": extra}))
    pair.iceberg = IcebergTableHook("glue")
    said(fails(pair, "verify", CATALOG), what, fix)


@pytest.fixture
def in_database(pair: Gated, altered: Any, proxies: Any, system: LocalSystem, tmp_path: Any) -> Callable[..., Any]:
    """Let the pair's catalog be a database, which keeps metadata in a store behind a proxy."""

    def make(meant: Callable[[Ask], bool], given: Answer | None) -> Interfering:
        proxy = proxies(Interfering(system.seaweedfs.s3_port, meant, given))
        extra = {
            "type": "sql",
            "warehouse": f"s3://{PROBE_BUCKET}/{pair.name}",
            "s3.endpoint": f"http://127.0.0.1:{proxy.port}",
        }
        pair.iceberg = IcebergTableHook(
            altered("iceberg_default", host=f"sqlite:///{tmp_path}/catalog.db", port=None, extra=extra)
        )
        pair.offload()
        pair.insert(20, day(3), arrived=pair.clickhouse.now())
        return proxy

    return make


METADATA = r"\.metadata\.json"


def test_a_store_that_is_full_for_a_catalogs_metadata_is_no_failure_of_the_catalog(
    pair: Gated, in_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_k2.commit.attempt.COMMIT_TRIES", 2)
    full = [False]
    proxy = in_database(lambda ask: full[0] and asks(WRITES, METADATA)(ask), FULL)
    full[0] = True
    error = fails(pair, "offload", STORE, window=True)
    assert proxy.strikes
    said(error, "the cold table's storage is full", "free space in the store")
    full[0] = False
    assert pair.cold.scan().count() == 20
    pair.offload()
    assert pair.cold.scan().count() == 40


def test_a_store_that_refuses_a_look_up_is_named(
    pair: Gated, in_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg_module, "RECOVERY_SECONDS", 1)
    denied = [False]
    in_database(lambda ask: denied[0] and asks(READS, METADATA)(ask), DENIED)
    cold = pair.cold
    denied[0] = True
    with pytest.raises(CommitUnknownError, match="storage does not allow it") as caught:
        pair.iceberg.look_up_commit(cold, "w1")
    assert "the right to read" in str(caught.value.fix)
