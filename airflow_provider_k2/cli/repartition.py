"""``k2 repartition``: gives a cold table the partition spec that the table list names."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from airflow_provider_k2.cli.common import IcebergConn, TablesFile, WatermarkConn, command, read_tables, who


def repartition(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table, by name.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")] = False,
    tables_file: TablesFile = None,
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Give a cold table the partition spec of the table list.

    Files that are there keep the spec that they were written with; new windows take the new one. Exit code 0: it is so
    now, or was so before. 2: refused or unreachable.
    """
    with command() as out:
        from airflow_provider_k2.hooks.iceberg import IcebergTableHook
        from airflow_provider_k2.hooks.watermark import WatermarkHook
        from airflow_provider_k2.offload.repartition import repartition as change_spec

        config = read_tables(tables_file).get(table)
        hooks = IcebergTableHook(iceberg_conn_id), WatermarkHook(watermark_conn_id)
        change = change_spec(config, *hooks, who=who(), log=logging.getLogger(__name__), dry_run=dry_run)
        before, after = (f"[{', '.join(fields)}]" for fields in (change.before, change.after))
        if set(change.before) == set(change.after):
            said = f"{change.table}: {config.target} is already partitioned by {before}; nothing was changed."
        elif change.made:
            said = f"{change.table}: {config.target} was partitioned by {before} and is by {after} now."
        else:
            said = f"{change.table}: {config.target} is partitioned by {before} and would be by {after}; "
            said += "nothing was changed."
        print(said, file=out)
