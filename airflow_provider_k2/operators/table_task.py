"""What every task of one table does alike.

Reads the table's entry and the run conf, names its lease, fails for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException

from airflow_provider_k2.exceptions import K2Error, RunConfError, ServiceError, SourceMissingError
from airflow_provider_k2.offload.data_interval import RunFacts, asked_interval, describe_past, is_past
from airflow_provider_k2.offload.run_conf import RunQuestion
from airflow_provider_k2.operators.outcomes import NotAskedError, PermanentError, tell
from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.tables.reader import read_entry

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.offload.data_interval import Interval


class TableTask:
    """Mixin of the operators that work on one table of the table list; it has no ``__init__``, which Airflow wraps."""

    table: str | Mapping[str, Any] | TableConfig
    table_list: str | Path | None
    clickhouse_conn_id: str
    iceberg_conn_id: str
    watermark_conn_id: str
    task_id: str
    log: logging.Logger

    bounds = ("lower", "upper")
    """Names of the bounds in the run conf."""
    untouched = "Nothing was changed"
    """What a message says about the state that an error leaves."""
    permanent: tuple[type[K2Error], ...] = ()
    """What no retry fixes: a person has to decide. The task fails at once."""

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

    def _connect(self) -> Services:
        """The three services, by the task's connections; nothing is reached yet."""
        from airflow_provider_k2.hooks.services import Services
        from airflow_provider_k2.hooks.without_pandas import load_pyarrow_datasets

        load_pyarrow_datasets()
        return Services.connect(self.clickhouse_conn_id, self.iceberg_conn_id, self.watermark_conn_id)

    @contextmanager
    def _failing_at_once(self, context: Context) -> Iterator[None]:
        """Fail the task without a retry if none would help; leave the reason for the run's report in either case.

        :raises AirflowFailException: for an error of ``permanent``, and for a missing connection.
        """
        try:
            yield
        except BaseException as error:
            if isinstance(error, (ServiceError, SourceMissingError)):
                # What was asked before, or after, the table's own steps.
                error.at(table=self.table_name)
            final = self._final(error)
            tell(context, self.table_name, final or error)
            if final is None and not isinstance(error, K2Error):
                raise
            # One traceback is enough for an expected error: what a library said is in the sentence.
            self.log.debug("%s: what led to it:", self.table_name, exc_info=error)
            raise final or error from None

    def _final(self, error: BaseException) -> AirflowFailException | None:
        """The error that ends the task for good, or None if a retry may help."""
        if isinstance(error, self.permanent):
            return PermanentError(error)
        if isinstance(error, AirflowNotFoundException):
            return AirflowFailException(
                f"{self.table_name}: a connection is missing: {error}. {self.untouched}; add it with `airflow "
                "connections add` or in the UI under Admin, Connections."
            )
        return None

    def _asked_by(self, context: Context) -> RunQuestion:
        """What the dag run asks, for the readers of :mod:`airflow_provider_k2.offload.run_conf`.

        :raises RunConfError: when the run conf is not a mapping, or the run's date could mean either.
        """
        dag_run = context["dag_run"]
        conf = dag_run.conf or {}
        if not isinstance(conf, Mapping):
            raise RunConfError(
                f"The run conf {conf!r} is not a mapping. {self.untouched}; write it as JSON, like "
                '{"tables": ["silver_trades"]}.'
            )
        params = dict(context.get("params") or {})
        facts = _run_facts(dag_run)
        merged = {**params, **conf}
        if facts.run_type == "scheduled" and is_past(facts, datetime.now(UTC)):
            self.log.info("%s: %s", self.table_name, describe_past(facts, self.bounds))
        explicit = any(merged.get(name) is not None for name in self.bounds)
        interval = None if explicit else asked_interval(facts, _guess_of(self), self.bounds)
        kind = facts.run_type if interval is None else "backfill"
        return RunQuestion(merged, kind, interval or (None, None), _declared(self) | (params.keys() - conf.keys()))

    def _skip_unless_asked(self, tables: tuple[str, ...]) -> None:
        """Skip when the run conf names tables, and this one is not among them."""
        table = self.table_config
        if tables and not table.is_among(tables):
            raise NotAskedError(f"{table.name} is not among the tables of this run: {', '.join(tables)}.")

    @staticmethod
    def _holder(context: Context) -> str:
        """Identity for the lease: the same for every try of one task."""
        ti = context["ti"]
        return f"{ti.dag_id}/{context['dag_run'].run_id}/{ti.task_id}/{ti.map_index}"


def _run_facts(dag_run: Any) -> RunFacts:
    """What Airflow says about the run.

    3.x knows when it was triggered, 2.11 when it was queued, until somebody clears it.
    """
    made_at = getattr(dag_run, "run_after", None)
    if made_at is None and not getattr(dag_run, "clear_number", 0):
        made_at = getattr(dag_run, "queued_at", None)
    run_type = getattr(dag_run, "run_type", "")
    return RunFacts(
        run_type=str(getattr(run_type, "value", run_type)),
        start=getattr(dag_run, "data_interval_start", None),
        end=getattr(dag_run, "data_interval_end", None),
        logical_date=getattr(dag_run, "logical_date", None),
        made_at=made_at,
    )


def _dag_of(task: Any) -> Any:
    return task.get_dag() if callable(getattr(task, "get_dag", None)) else None


def _declared(task: Any) -> set[str]:
    """Keys that the DAG or the task declares as params."""
    dag = _dag_of(task)
    return set(getattr(task, "params", None) or ()) | set(getattr(dag, "params", None) or ())


def _guess_of(task: Any) -> Callable[[datetime], Interval | None]:
    """The data interval that the DAG's timetable gives a manual run of a date."""

    def guess(date: datetime) -> Interval | None:
        import pendulum

        timetable = getattr(_dag_of(task), "timetable", None)
        if timetable is None:
            return None
        try:
            # From 3.2 on a DAG's timetable is a definition, without the logic.
            from airflow.serialization.encoders import coerce_to_core_timetable
        except ImportError:
            pass
        else:
            timetable = coerce_to_core_timetable(timetable)
        interval = timetable.infer_manual_data_interval(run_after=pendulum.instance(date))
        return interval.start, interval.end

    return guess
