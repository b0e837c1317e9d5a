"""Hook for the cold tier.

Airflow's official IcebergHook (REST, SQL, Glue by configuration) with what the protocol needs.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from airflow.providers.apache.iceberg.hooks.iceberg import IcebergHook
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from airflow_provider_k2.commit.catalog import (
    describe_catalog,
    explain_catalog,
    is_gone,
    is_of_catalog,
    may_answer_later,
    name_service,
)
from airflow_provider_k2.commit.cold_state import find_commit
from airflow_provider_k2.commit.entry import entry_property
from airflow_provider_k2.commit.store import explain_store, in_one_line, is_of_store
from airflow_provider_k2.exceptions import CATALOG, CommitUnknownError, ServiceError, TableChangedError
from airflow_provider_k2.hooks.redaction import hide, mask, secrets_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

    from airflow_provider_k2.tables.model import TableConfig

T = TypeVar("T")

CATALOG_TIMEOUT = 60
"""Seconds that one answer of a REST catalog may take; without it a half-open connection would hang for ever."""

RECOVERY_SECONDS = 90
"""How long an unreachable catalog is asked again before the outcome of a commit is given up as unknown."""

TABLE_PROPERTIES = {
    "format-version": "2",
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    # Without merging, every commit's manifest stays: a replace then reads all of them.
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
    "write.delete.mode": "copy-on-write",
    "write.update.mode": "copy-on-write",
    "write.merge.mode": "copy-on-write",
}
"""Properties of a cold table at its creation; a table that exists is never altered silently."""


class IcebergTableHook(IcebergHook):
    """Load, create and look into cold tables.

    :param iceberg_conn_id: the Airflow connection of the catalog.
    """

    @cached_property
    def catalog(self) -> Catalog:
        """The pyiceberg catalog, whose every request ends after a time.

        :raises ServiceError: when it cannot be reached.
        """
        from airflow_provider_k2.hooks.rest_catalog import answers_within

        try:
            mask(self._secrets)
            with answers_within(CATALOG_TIMEOUT):
                catalog: Catalog = IcebergHook.catalog.func(self)
        except Exception as error:
            if _is_missing_connection(error):
                raise
            raise self._failure(error) from self._cause(error)
        return catalog

    @cached_property
    def _secrets(self) -> frozenset[str]:
        connection = self.get_connection(self.conn_id)
        return secrets_of(connection.host, connection.extra_dejson or {})

    def _cause(self, error: BaseException) -> BaseException | None:
        """The error, unless it or what led to it repeats a secret: a traceback would show it."""
        chain: BaseException | None = error
        while chain is not None:
            if hide(f"{chain!s} {chain!r}", self._secrets) != f"{chain!s} {chain!r}":
                return None
            chain = chain.__cause__ or chain.__context__
        return error

    def failure(self, error: BaseException) -> ServiceError | None:
        """What the catalog did, when a library's error is about it; None for any other error.

        :param error: what pyiceberg, requests or SQLAlchemy raised.
        """
        return self._failure(error) if is_of_catalog(error) else None

    def fix_of(self, error: BaseException | None) -> str:
        """What fixes a failure of the catalog, or of the store that it keeps metadata in.

        :param error: what pyiceberg raised.
        """
        if error is not None and is_of_store(error):
            return explain_store(error)[1]
        return explain_catalog(error or ValueError())[1].format(f"`airflow connections get {self.conn_id}`")

    def _failure(self, error: BaseException) -> ServiceError:
        return ServiceError(
            f"The Iceberg catalog of connection {self.conn_id!r} {hide(describe_catalog(error), self._secrets)}",
            service=CATALOG,
            untouched="Nothing was committed and the watermark stands",
            fix=self.fix_of(error),
        )

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the catalog; say in our words when it does not answer, or refuses.

        :raises ServiceError: when it cannot be reached, or refuses.
        """
        try:
            return question()
        except ServiceError:
            raise
        except Exception as error:
            if _is_missing_connection(error) or is_gone(error):
                raise
            raise self._failure(error) from self._cause(error)

    def load(self, target: str) -> Table | None:
        """Load a cold table, or None when it does not exist.

        :raises ServiceError: when the catalog cannot be reached.
        """
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            return self._ask(lambda: self.catalog.load_table(target))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    def refuse_unknown_namespace(self, target: str) -> None:
        """Tell a table that is not there yet from a mistake in the table list or the connection.

        :param target: a cold table that the catalog does not have.
        :raises ServiceError: when it does not even have its namespace.
        """
        from pyiceberg.exceptions import ForbiddenError, NoSuchNamespaceError

        namespace = target.partition(".")[0]

        def look() -> None:
            try:
                self.catalog.load_namespace_properties(namespace)
            except (ForbiddenError, NotImplementedError) as error:
                # Who may not look at namespaces may still read the tables in them.
                self.log.debug("The namespace %s is not looked at: %s", namespace, error)

        try:
            self._ask(look)
        except NoSuchNamespaceError as error:
            warehouse = self.catalog.properties.get("warehouse")
            raise ServiceError(
                f"The Iceberg catalog of connection {self.conn_id!r} has no namespace {namespace!r} in its warehouse"
                f"{f' {warehouse!r}' if warehouse else ''}",
                service=CATALOG,
                untouched="Nothing was changed",
                fix=(
                    f"correct `target` in the table list, or `warehouse` in the connection, see `airflow connections "
                    f"get {self.conn_id}`; where nothing was ever offloaded, the first run of the offload makes it"
                ),
            ) from error

    def create(self, table: TableConfig, schema: Schema) -> Table:
        """Create a cold table with the partition spec of the table list.

        Full metrics are kept on the columns that windows and queries filter by: cursor, key, partition and event time.

        :raises ServiceError: when the catalog cannot be reached or refuses.
        """
        from pyiceberg.exceptions import ForbiddenError, NamespaceAlreadyExistsError, TableAlreadyExistsError
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import parse_transform

        spec = PartitionSpec(
            *(
                PartitionField(
                    source_id=schema.find_field(part.column).field_id,
                    field_id=1000 + number,
                    transform=parse_transform(part.transform),
                    name=part.name,
                )
                for number, part in enumerate(table.partition)
            )
        )
        filtered = [table.cursor, *table.key, *(part.column for part in table.partition), table.event_time]
        properties = {
            **TABLE_PROPERTIES,
            **entry_property(table),
            **{
                f"write.metadata.metrics.column.{name}": "full"
                for name in filtered
                if name is not None and name in schema.column_names
            },
        }
        namespace = table.target.partition(".")[0]

        def create() -> Table:
            try:
                self.catalog.create_namespace(namespace)
            except (NamespaceAlreadyExistsError, ForbiddenError) as error:
                # Who may not make namespaces may still make tables in one that is there.
                self.log.debug("The namespace %s was not created: %s", namespace, error)
            try:
                return self.catalog.create_table(table.target, schema, partition_spec=spec, properties=properties)
            except TableAlreadyExistsError:
                return self.catalog.load_table(table.target)

        return self._ask(create)

    def look_up_commit(self, table: Table, commit_id: str) -> int | None:
        """Find out whether a window's commit of unknown outcome has happened; refreshes ``table``.

        :returns: its snapshot id, or None when it is not among the ancestors of the current snapshot.
        :raises K2Error: see :meth:`look_up`.
        """
        return self.look_up(table, f"window {commit_id}", lambda metadata: find_commit(metadata, commit_id))

    def look_up(self, table: Table, work: str, find: Callable[[TableMetadata], Snapshot | None]) -> int | None:
        """Find out whether a commit of unknown outcome has happened; refreshes ``table``.

        :param work: what was committed, for messages.
        :param find: finds its snapshot.
        :returns: its snapshot id, or None when it is not there.
        :raises CommitUnknownError: when the catalog does not answer in time, or refuses; the next run looks again.
        :raises TableChangedError: when the table no longer exists.
        """
        waiting = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Exception) and may_answer_later(error)),
            stop=stop_after_delay(RECOVERY_SECONDS),
            wait=wait_exponential(multiplier=0.5, max=10),
            reraise=True,
        )
        try:
            waiting(table.refresh)
        except Exception as error:
            name = ".".join(table.name())
            if is_gone(error):
                raise TableChangedError(
                    f"the cold table {name} was dropped while {work} was committed: {in_one_line(error)}",
                    untouched="Nothing was committed",
                    fix="find out who dropped it",
                ) from error
            how_long = f" (asked for {RECOVERY_SECONDS} seconds)" if may_answer_later(error) else ""
            raise CommitUnknownError(
                f"it is unknown whether {work} was committed to {name}{how_long}, because "
                f"{hide(name_service(error)[1], self._secrets)}",
                untouched="Nothing was written again, and the next run looks it up",
                fix=self.fix_of(error),
            ) from self._cause(error)
        snapshot = find(table.metadata)
        return snapshot.snapshot_id if snapshot else None


def _is_missing_connection(error: Exception) -> bool:
    """Whether Airflow does not know the connection.

    In a task of Airflow 3 the supervisor says so in an error of its own.
    """
    return type(error).__name__ in ("AirflowNotFoundException", "AirflowRuntimeError")
