"""Hook that serves one Airflow connection to both of ClickHouse's protocols.

Control queries travel on the native protocol, by :mod:`airflow_provider_k2.hooks.native`. Bulk streams travel over
HTTP, through :mod:`airflow_provider_k2.clickhouse.http`.
Where the server listens is read by :mod:`airflow_provider_k2.hooks.clickhouse_connection`.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_k2.clickhouse.answers import refusal
from airflow_provider_k2.clickhouse.arrow import read_arrow
from airflow_provider_k2.clickhouse.http import TIMEOUT, Endpoints, HttpClient
from airflow_provider_k2.clickhouse.pinned import FIXED_CODES, GUARDS, QUESTION, Pins, decide
from airflow_provider_k2.clickhouse.sql import long_query_settings
from airflow_provider_k2.exceptions import CLICKHOUSE, ServiceError, SourceMissingError
from airflow_provider_k2.hooks.clickhouse_connection import read_endpoints
from airflow_provider_k2.hooks.native import native_hook

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from airflow_provider_k2.hooks.native import NativeHook

_LOG = logging.getLogger(__name__)


class ClickHouseHook(BaseHook):
    """Interact with ClickHouse over both of its protocols.

    :param clickhouse_conn_id: the Airflow connection.
    """

    conn_name_attr = "clickhouse_conn_id"
    default_conn_name = "clickhouse_default"
    # Not `clickhouse`: that is the official provider's, whose SQL operators look their hook up by it. A connection of
    # any type serves this hook.
    conn_type = "k2_clickhouse"
    hook_name = "ClickHouse (K2)"

    def __init__(self, clickhouse_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__()
        self.clickhouse_conn_id = kwargs.pop(self.conn_name_attr, clickhouse_conn_id)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the connection form shows before Airflow 3.2, which reads the provider info instead."""
        from airflow_provider_k2.get_provider_info import CONNECTION_FORM

        return {name.replace("-", "_"): value for name, value in CONNECTION_FORM["ui-field-behaviour"].items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's own fields before Airflow 3.2.

        What may be true by default is text: the form would save an unticked box as false.
        """
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import IntegerField, StringField
        from wtforms.validators import NumberRange, Optional, Regexp

        from airflow_provider_k2.get_provider_info import CONNECTION_FORM

        fields = {}
        for name, field in CONNECTION_FORM["conn-fields"].items():
            kind = StringField
            checks: list[Any] = [Optional()]
            if "integer" in field["schema"]["type"]:
                kind = IntegerField
                checks.append(NumberRange(1, 65535))
            elif "boolean" in field["schema"]["type"]:
                checks.append(Regexp("(?i)^(true|false)$", message="Write true or false, or leave it empty."))
            fields[name] = kind(
                field["label"], widget=BS3TextFieldWidget(), validators=checks, description=field["description"]
            )
        return fields

    @cached_property
    def endpoints(self) -> Endpoints:
        """Where the server listens."""
        return read_endpoints(self.get_connection(self.clickhouse_conn_id))

    @cached_property
    def _native(self) -> NativeHook:
        return native_hook(self.clickhouse_conn_id, self.endpoints, TIMEOUT)

    @cached_property
    def pins(self) -> Pins:
        """Settings that go with every query, so that the user's profile cannot cut, limit or change an answer.

        :raises ServiceError: when the profile does, and lets nobody change that.
        """
        try:
            answer = self._run(self._ask_quietly, QUESTION, GUARDS)
        except ServiceError as error:
            if getattr(error.__cause__, "code", None) not in FIXED_CODES:
                raise
            # Something of that may not be changed: it is named below, and if it cuts this answer, too, by the error
            # itself.
            pins = decide(self._run(self._ask_quietly, QUESTION, None), guarded=False)
            if not any(stuck.must for stuck in pins.stuck):
                raise
        else:
            pins = decide(answer)
        fatal = [stuck for stuck in pins.stuck if stuck.must]
        if fatal:
            raise ServiceError(
                f"The settings profile of ClickHouse's user {self.endpoints.user!r} (connection "
                f"{self.clickhouse_conn_id!r}) does not let {' and '.join(map(str, fatal))} be "
                "changed: a short answer would pass for a whole one",
                service=CLICKHOUSE,
                untouched="Nothing was moved or dropped",
                fix=("change the profile, lift its constraint (or `readonly = 1`), or use another user"),
            )
        for stuck in pins.stuck:
            _LOG.warning(
                "The settings profile of user %r has %s, and does not let it be changed.", self.endpoints.user, stuck
            )
        return pins

    def execute(
        self, sql: str, parameters: dict[str, Any] | None = None, settings: dict[str, str] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run a control query on the native protocol.

        :param sql: the query; ``%(name)s`` stands for a parameter, which the driver escapes.
        :param parameters: values of the parameters.
        :param settings: ClickHouse settings of the query, besides :attr:`pins`.
        :raises SourceMissingError: when a table or database does not exist.
        :raises ServiceError: when the server cannot be reached, or refuses.
        """
        wanted = {**self.pins.send, **long_query_settings(sql), **(settings or {})}
        return self._run(self._native.execute, sql, parameters, settings=wanted or None)

    def _ask_quietly(self, sql: str, settings: dict[str, str] | None) -> Any:
        """Run a query that is too long for the log."""
        client = self._native.get_conn()
        try:
            return client.execute(sql, settings=settings)
        finally:
            client.disconnect()

    def _run(self, ask: Callable[..., Any], *arguments: Any, **options: Any) -> list[tuple[Any, ...]]:
        from clickhouse_driver.errors import Error, ServerException, SocketTimeoutError

        try:
            result: list[tuple[Any, ...]] = ask(*arguments, **options)
        except ServerException as error:
            where = f"ClickHouse (connection {self.clickhouse_conn_id!r}) refuses a query"
            raise refusal(
                where, str(error.message), self.endpoints.user, self.clickhouse_conn_id, error.code
            ) from error
        except (Error, OSError, EOFError) as error:
            what, fix = "cannot be reached", "check the connection with {}, and that the server runs"
            if isinstance(error, SocketTimeoutError):
                what, fix = "does not answer in time", "check the server's log, check the port with {}"
            elif isinstance(error, (EOFError, ConnectionError)):
                what, fix = "breaks off", "check the server's log, check port and TLS with {}, and run it again"
            said = " ".join(str(error).split()).rstrip(".")
            raise ServiceError(
                f"ClickHouse at {self.endpoints.host}:{self.endpoints.native_port} (connection "
                f"{self.clickhouse_conn_id!r}, native protocol) {what}: {said}",
                service=CLICKHOUSE,
                untouched="Nothing was moved",
                fix=fix.format(f"`airflow connections get {self.clickhouse_conn_id}`"),
            ) from error
        return result

    @property
    def http_client(self) -> HttpClient:
        """The server's streams: they need no Airflow, and go to other machines."""
        return HttpClient(self.endpoints, self.clickhouse_conn_id, TIMEOUT, tuple(self.pins.send.items()))

    def stream(
        self, sql: str, output_format: str, settings: dict[str, Any] | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Yield a query's answer as a stream of bytes; see :meth:`.HttpClient.stream`."""
        return self.http_client.stream(sql, output_format, settings)

    def arrow(self, sql: str, settings: dict[str, Any] | None = None) -> pa.Table:
        """Return a query's whole answer as an Arrow table; see :func:`.read_arrow`."""
        with self.stream(sql, "ArrowStream", settings) as stream:
            return read_arrow(stream, sql)

    def columns(self, source: str) -> list[tuple[str, str]]:
        """Names and types of a table's or view's columns, in order.

        :raises SourceMissingError: when it does not exist.
        """
        database, _, table = source.partition(".")
        rows = self.execute(
            # Of an EPHEMERAL column nothing is stored.
            "SELECT name, type FROM system.columns WHERE database = %(database)s AND table = %(table)s "
            "AND default_kind != 'EPHEMERAL' ORDER BY position",
            {"database": database, "table": table},
        )
        if not rows:
            raise SourceMissingError(
                f"The warm source {source} does not exist (or user {self.endpoints.user!r} may not see it)",
                untouched="Nothing was moved and the watermark stands",
                fix=(
                    "create it, or correct `source` in the table list, or give the user "
                    f"`GRANT SELECT ON {source} TO {self.endpoints.user}`"
                ),
            )
        return [(str(name), str(kind)) for name, kind in rows]

    def create_query(self, source: str) -> str:
        """The statement that makes a warm object as it is now; empty when it does not exist."""
        return self._of_object("create_table_query", source) or ""

    def table_uuid(self, source: str) -> str:
        """UUID of a warm object: the identity that a re-creation changes.

        :raises SourceMissingError: when it does not exist.
        """
        found = self._of_object("toString(uuid)", source)
        if found is None:
            raise SourceMissingError(
                f"The warm source {source} does not exist",
                untouched="Nothing was moved and the watermark stands",
                fix="create it, or correct the table list",
            )
        return found

    def _of_object(self, expression: str, source: str) -> str | None:
        """What ``system.tables`` says of a warm object, or None when it does not exist."""
        database, _, table = source.partition(".")
        rows = self.execute(
            f"SELECT {expression} FROM system.tables WHERE database = %(database)s AND name = %(name)s",
            {"database": database, "name": table},
        )
        return str(rows[0][0]) if rows else None

    def now(self) -> int:
        """The warm tier's clock in epoch microseconds: cursors are set by it, so windows end by it."""
        return int(self.execute("SELECT toUnixTimestamp64Micro(now64(6))")[0][0])

    def test_connection(self) -> tuple[bool, str]:
        """Try both protocols, for the Test button of the connection form."""
        try:
            version = self.execute("SELECT version()")[0][0]
            with self.stream("SELECT 1", "TSV") as answer:
                answer.read()
        except (ServiceError, SourceMissingError) as error:
            return False, str(error)
        return True, f"ClickHouse {version} answers on both protocols."
