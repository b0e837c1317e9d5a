"""Where the SQL and the Spark job are: beside the package in a checkout, inside it in the wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def include_dir() -> Path:
    """Return the ``include`` folder.

    :raises FileNotFoundError: when the installation is incomplete.
    """
    for candidate in (_PACKAGE / "include", _PACKAGE.parent / "include"):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"airflow-provider-k2 is installed without its include folder ({_PACKAGE / 'include'} does not exist); "
        "install the wheel again: pip install --force-reinstall airflow-provider-k2"
    )


def sql_dir(kind: str) -> Path:
    """Return the folder of the SQL files for ``clickhouse`` or ``postgres``.

    :param kind: name of the folder below ``include/sql``.
    :raises FileNotFoundError: when there is none of that name.
    """
    folder = include_dir() / "sql" / kind
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: there is no SQL for {kind!r}")
    return folder


def spark_dir() -> Path:
    """Return the folder of the Spark job.

    :raises FileNotFoundError: when the installation is incomplete.
    """
    folder = include_dir() / "spark"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; install the wheel again")
    return folder
