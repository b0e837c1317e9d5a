"""What every task of one table does alike: reads the table's entry and the run conf, names its lease, fails for good."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.tables.reader import read_entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context


class TableTask:
    """Mixin of the operators that work on one table of the table list; it has no ``__init__``, which Airflow wraps."""

    table: str | Mapping[str, Any] | TableConfig
    table_list: str | Path | None
    task_id: str

    untouched = "Nothing was changed"
    """What a message says of the state that an error leaves."""
    permanent: tuple[type[Exception], ...] = ()
    """What no retry mends: a person has to decide. The task fails at once."""

    @property
    def table_name(self) -> str:
        """Short name of the table: names the mapped task in Airflow's UI."""
        if isinstance(self.table, Mapping):
            return str(self.table.get("target", "")).rpartition(".")[2]
        return self.table.name if isinstance(self.table, TableConfig) else self.table

    @cached_property
    def table_config(self) -> TableConfig:
        """The table's validated entry.

        :raises TableListError: when it has a mistake or does not exist.
        """
        return read_entry(self.table, self.table_list, f"task {self.task_id}")

    @contextmanager
    def _failing_at_once(self) -> Iterator[None]:
        """Fail the task without a retry where none would help.

        :raises AirflowFailException: for an error of ``permanent``, and for a missing connection.
        """
        try:
            yield
        except self.permanent as error:
            raise AirflowFailException(str(error)) from error
        except AirflowNotFoundException as error:
            raise AirflowFailException(
                f"{self.table_name}: a connection is missing: {error}. {self.untouched}; add it with `airflow connections add` "
                "or in the UI under Admin, Connections."
            ) from error

    @staticmethod
    def _conf(context: Context) -> dict[str, Any]:
        """Conf of the dag run, over the DAG's params."""
        return {**dict(context.get("params") or {}), **dict(context["dag_run"].conf or {})}

    def _skip_unless_asked(self, tables: tuple[str, ...]) -> None:
        """Skip when the run conf names tables, and this one is not among them."""
        table = self.table_config
        if tables and not table.is_among(tables):
            raise AirflowSkipException(f"{table.name} is not among the tables of this run: {', '.join(tables)}.")

    @staticmethod
    def _holder(context: Context) -> str:
        """Identity for the lease: the same for every try of one task."""
        ti = context["ti"]
        return f"{ti.dag_id}/{context['dag_run'].run_id}/{ti.task_id}/{ti.map_index}"
