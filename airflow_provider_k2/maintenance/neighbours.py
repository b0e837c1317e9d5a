"""Whether another table's files may lie below a table's location: then nobody can say which of them nothing needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import MaintenanceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.typedef import Identifier

    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.maintenance.storage import Storage, Stored

_PLACES = ("write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path")
"""Table properties that name a place for a table's files."""


def refuse_neighbours(
    table: Table, iceberg: IcebergTableHook, storage: Storage, listing: Mapping[str, Stored], needed: set[str]
) -> None:
    """Make sure that everything below a table's location is its own.

    :param listing: what is below it.
    :param needed: what the table itself needs of it.
    :raises MaintenanceError: naming the other table.
    """
    name, uuid = ".".join(table.name()), str(table.metadata.table_uuid)
    for path in sorted(listing.keys() - needed):
        # Also those of tables that this catalog does not have.
        if path.endswith((".metadata.json", ".metadata.json.gz")) and (found := _uuid_in(storage, path)) != uuid:
            raise _refused(name, f"{path} is of another table ({found or 'it cannot be read'})")
    for other in _others(iceberg.catalog, table):
        places = [other.location(), *(other.metadata.properties.get(one) for one in _PLACES)]
        for place in filter(None, places):
            if storage.overlaps(place):
                raise _refused(name, f"the table {'.'.join(other.name())} is at {place}")


def _uuid_in(storage: Storage, path: str) -> str | None:
    """The UUID of the table whose metadata a file holds; None if it cannot be read."""
    import gzip

    try:
        held = storage.read(path)
        document = json.loads(gzip.decompress(held) if held[:2] == b"\x1f\x8b" else held)
    except (OSError, ValueError, EOFError):
        return None
    found = document.get("table-uuid") if isinstance(document, dict) else None
    return str(found) if found else None


def _others(catalog: Catalog, table: Table) -> Iterator[Table]:
    """Every other table of the catalog.

    :raises Exception: whatever the catalog raises for one that it lists; one that was dropped meanwhile is passed over.
    """
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    for namespace in _namespaces(catalog, ()):
        try:
            names = catalog.list_tables(namespace)
        except NoSuchNamespaceError:
            continue
        for name in names:
            if tuple(name) == tuple(table.name()):
                continue
            try:
                yield catalog.load_table(name)
            except NoSuchTableError:
                continue


def _namespaces(catalog: Catalog, above: Identifier) -> Iterator[Identifier]:
    """Every namespace, those inside others included, where the catalog has such."""
    for one in catalog.list_namespaces(above):
        found = tuple(one)
        if found == above or len(found) <= len(above):
            # A catalog without nested namespaces answers with its own.
            continue
        yield found
        yield from _namespaces(catalog, found)


def _refused(name: str, what: str) -> MaintenanceError:
    return MaintenanceError(
        f"{name}: no file is removed, because its location is shared: {what}",
        step="maintain",
        untouched="Nothing was removed",
        fix="give each table a location of its own; files of a table that is gone can only be removed by hand",
    )
