"""The last seam: what a library says about the catalog or the store becomes our error, wherever it was met."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_k2 import exceptions
from airflow_provider_k2.commit.catalog import is_gone
from airflow_provider_k2.commit.store import describe_store, explain_store, in_one_line, is_of_store
from airflow_provider_k2.exceptions import STORE, CommitConflictError, K2Error, ServiceError, TableChangedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.hooks.iceberg import IcebergTableHook

_UNTOUCHED = {
    "compare": "Nothing was changed",
    "repartition": "No row was touched; `k2 repartition --dry-run` says whether the partition spec was changed",
    "maintain": "What was committed before is proven and stays, and nothing else was changed",
    "drop": "What was dropped before is proven to be cold, and nothing else was dropped",
}
_MOVING = "The watermark stands, and whatever was committed is found by the next run"


@contextmanager
def about(table: str, step: str, iceberg: IcebergTableHook) -> Iterator[None]:
    """Add the table to whatever goes wrong inside, and the service to a library's error.

    :param table: short name of the table.
    :param step: what is being done.
    :param iceberg: the catalog's hook.
    :raises K2Error: for errors of a service's library; anything else is passed on with a note.
    """
    with exceptions.about(table, step):
        try:
            yield
        except K2Error:
            raise
        except Exception as error:
            known = explain(error, step, iceberg)
            if known is None:
                raise
            raise known from error


def explain(error: BaseException, step: str, iceberg: IcebergTableHook) -> K2Error | None:
    """What a library's error means; None if it is not about a service.

    :param error: what was raised.
    :param step: what was being done.
    :param iceberg: the catalog's hook.
    """
    from pyiceberg.exceptions import CommitFailedException

    untouched = _UNTOUCHED.get(step, _MOVING)
    if isinstance(error, CommitFailedException):
        return CommitConflictError(
            f"another writer changed the cold table at the same moment: {in_one_line(error)}",
            untouched=untouched,
            fix="run it again",
        )
    if is_gone(error):
        return TableChangedError(
            f"the cold table is gone since this began: {in_one_line(error)}",
            untouched=untouched,
            fix="find out who dropped it; if it is to start over, run `k2 watermarks reset` for it",
        )
    if is_of_store(error):
        return ServiceError(describe_store(error), service=STORE, untouched=untouched, fix=explain_store(error)[1])
    failure = iceberg.failure(error)
    if failure is not None:
        failure.untouched = untouched
    return failure
