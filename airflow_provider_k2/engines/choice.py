"""Which engine moves a window, and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_k2.tables.model import TableConfig


@dataclass(frozen=True)
class Choice:
    """An engine, and the reason in words."""

    engine: str
    why: str


@dataclass(frozen=True)
class SparkOffer:
    """Whether Spark may be chosen if nobody asked for it.

    :param where: the master, or why there is none to use.
    :param usable: whether it is worth more than this worker.
    """

    where: str
    usable: bool


def choose_engine(table: TableConfig, rows: int, asked: str | None, offer: SparkOffer) -> Choice:
    """Choose the engine for what is left of a range.

    :param rows: rows that are left.
    :param asked: what a task asks for instead of the entry's own engine.
    :param offer: what is known about Spark. If it is asked for by name, Spark is taken anyway, and says itself what it
        lacks.
    """
    wish = asked or table.engine
    if wish != "auto":
        return Choice(wish, f"this task asks for `engine: {wish}`" if asked else f"the entry says `engine: {wish}`")
    if rows <= table.spark_rows:
        return Choice("direct", f"{rows:,} rows are left, and Spark is worth starting from {table.spark_rows:,} on")
    if not offer.usable:
        return Choice("direct", offer.where)
    return Choice("spark", f"{rows:,} rows are left, more than {table.spark_rows:,}, and {offer.where} is configured")
