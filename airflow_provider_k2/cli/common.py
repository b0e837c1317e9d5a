"""What the commands share: connection options, plain errors, output."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from airflow_provider_k2.exceptions import K2Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from airflow_provider_k2.tables.model import TableList

DIFFERENT, FAILED = 1, 2
"""Exit codes: warm and cold differ (or a request was refused); something could not be reached or read."""

ClickHouseConn = Annotated[str, typer.Option("--clickhouse-conn-id", help="Airflow connection of the warm tier.")]
IcebergConn = Annotated[str, typer.Option("--iceberg-conn-id", help="Airflow connection of the cold tier's catalog.")]
WatermarkConn = Annotated[
    str, typer.Option("--watermark-conn-id", help="Airflow connection of the ledger's PostgreSQL.")
]
TablesFile = Annotated[
    Path | None,
    typer.Option(
        "--tables", envvar="K2_TABLES", metavar="FILE", help="Table list; the nine standard tables if not given."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


@contextlib.contextmanager
def command() -> Iterator[TextIO]:
    """Prepare the environment; end known failures with one sentence instead of a traceback.

    :returns: standard output, kept for the command's own answer: what libraries print meanwhile goes to standard error.
    """
    from airflow_provider_k2.cli.environment import load_environment
    from airflow_provider_k2.hooks.without_pandas import load_pyarrow_datasets

    load_environment()
    load_pyarrow_datasets()
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield answer
        except typer.Exit:
            raise
        except Exception as error:
            sentence = explain(error)
            if sentence is None:
                raise
            print(sentence, file=sys.stderr)
            raise typer.Exit(FAILED) from None
        finally:
            answer.flush()


def explain(error: BaseException) -> str | None:
    """The sentence for a failure that is no fault of the program, or None."""
    if isinstance(error, K2Error):
        return str(error)
    name = type(error).__name__
    if name == "AirflowNotFoundException":
        return (
            f"A connection is missing: {error}. Nothing was changed; start the local system with `k2 local up`, or add "
            "the connection with `airflow connections add`."
        )
    if name in ("OperationalError", "ProgrammingError", "AirflowConfigException"):
        first = str(error).strip().splitlines()[0] if str(error).strip() else name
        return (
            f"Airflow's own configuration or database does not answer ({name}: {first}). Nothing was changed; check "
            "AIRFLOW_HOME, or set AIRFLOW_CONN_... variables."
        )
    return None


def read_tables(path: Path | None) -> TableList:
    """Read the table list.

    :raises TableListError: listing every mistake.
    """
    from airflow_provider_k2.tables.reader import load_tables

    return load_tables(path) if path is not None else load_tables()


def who() -> str:
    """Who gives the command, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def console(out: TextIO) -> Console:
    """Console for tables: in a file or a pipe nothing is cut or wrapped."""
    from rich.console import Console

    made = Console(file=out)
    return made if made.is_terminal else Console(file=out, width=400)


def print_json(document: dict[str, Any], out: TextIO) -> None:
    """Write one JSON document."""
    json.dump(document, out, indent=2)
    print(file=out)


def show_cursor(value: int | None, time: bool | None = None) -> str:
    """A watermark or bound for people: UTC time, or the integer; decided by its size if the type is not known."""
    from airflow_provider_k2.windows import describe_cursor

    return "-" if value is None else describe_cursor(value, time).removesuffix(" UTC")


def json_cursor(value: int | None, time: bool | None = None) -> str | int | None:
    """A watermark or bound for programs: ISO time with microseconds and zone, or the integer."""
    from airflow_provider_k2.windows import iso_cursor

    return None if value is None else iso_cursor(value, time)
