"""Which range a task run is about, in this order: run conf, data interval of a backfill run, stored watermark. Pure.

Nothing of it is templated: a manual run of Airflow 3 has no logical date, and a template over it would fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import WatermarkError
from airflow_provider_k2.windows import Window, describe_cursor, to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTEGER = re.compile(r"-?[0-9]{1,19}")

KINDS = ("scheduled", "backfill", "repair")


@dataclass(frozen=True)
class Asked:
    """What a dag run asks of every table.

    :param window: an explicit cursor range, or None to go on from the watermark.
    :param of_time: its bounds were given as times: a data interval, or ISO times.
    :param kind: ``scheduled``, ``backfill`` or ``repair``.
    :param force: replace cold rows even by fewer warm ones.
    :param tables: the tables that are meant; empty for all.
    """

    window: Window | None
    of_time: bool
    kind: str
    force: bool
    tables: tuple[str, ...]


@dataclass(frozen=True)
class AskedComparison:
    """What a dag run asks of a comparison of every table.

    :param since: inclusive lower bound by the bucket column, or None.
    :param until: exclusive upper bound, or None.
    :param repair: whether to repair, or None to leave that to the task.
    :param force: repair even by fewer warm rows.
    :param tables: the tables that are meant; empty for all.
    """

    since: int | None
    until: int | None
    repair: bool | None
    force: bool
    tables: tuple[str, ...]


def read_request(conf: Mapping[str, Any], run_type: str, interval: tuple[datetime | None, datetime | None]) -> Asked:
    """Read a dag run.

    :param conf: run conf or params: ``lower``, ``upper`` (ISO time with zone, or integer), ``tables``, ``force``.
    :param run_type: Airflow's run type; ``backfill`` takes the data interval.
    :param interval: the data interval.
    :raises WatermarkError: when the bounds cannot be read.
    """
    force, tables = asked_flag(conf, "force") or False, asked_tables(conf)
    lower, upper = conf.get("lower"), conf.get("upper")
    if (lower is None) != (upper is None):
        raise WatermarkError(
            "The run conf has only one of `lower` and `upper`. Nothing was moved; give both, or neither."
        )
    if lower is not None and upper is not None:
        window = _window(read_bound(lower), read_bound(upper))
        return Asked(window, not (_is_integer(lower) and _is_integer(upper)), "backfill", force, tables)
    start, end = interval
    if run_type == "backfill" and start is not None and end is not None:
        return Asked(_window(to_micros(start), to_micros(end)), True, "backfill", force, tables)
    return Asked(None, False, "scheduled", force, tables)


def read_comparison(
    conf: Mapping[str, Any], run_type: str, interval: tuple[datetime | None, datetime | None]
) -> AskedComparison:
    """Read a dag run that compares.

    :param conf: run conf or params: ``since``, ``until`` (ISO time with zone, or integer), ``repair``, ``force``, ``tables``.
    :param run_type: Airflow's run type; ``backfill`` compares the data interval.
    :param interval: the data interval.
    :raises WatermarkError: when the bounds cannot be read.
    """
    since, until = (None if conf.get(name) is None else read_bound(conf[name]) for name in ("since", "until"))
    start, end = interval
    if since is None and until is None and run_type == "backfill" and start is not None and end is not None:
        since, until = to_micros(start), to_micros(end)
    refuse_empty(since, until)
    return AskedComparison(
        since, until, asked_flag(conf, "repair"), asked_flag(conf, "force") or False, asked_tables(conf)
    )


def refuse_empty(since: int | None, until: int | None) -> None:
    """Refuse bounds of a comparison between which no row lies: nothing compared would look equal.

    :raises WatermarkError: when both are given and the first is not below the second.
    """
    if since is not None and until is not None and since >= until:
        raise WatermarkError(
            f"The asked range is empty: it begins at {describe_cursor(since)} and ends at {describe_cursor(until)}, exclusive. "
            f"Nothing was compared; {'swap the bounds' if since > until else 'let `until` be later than `since`'}."
        )


def asked_tables(conf: Mapping[str, Any]) -> tuple[str, ...]:
    """Read ``tables`` of a run conf, a list or names with commas between them; empty for all tables.

    :raises WatermarkError: when it is neither.
    """
    tables = conf.get("tables") or []
    names = tables.split(",") if isinstance(tables, str) else tables
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise WatermarkError(
            f"The run conf's `tables: {tables!r}` is not a list of names. Nothing was changed; write "
            '`"tables": ["silver_trades"]`.'
        )
    return tuple(name.strip() for name in names if name.strip())


def asked_flag(conf: Mapping[str, Any], name: str) -> bool | None:
    """Read a boolean of a run conf, None where it is not there. ``"false"`` in quotes would be true for Python.

    :raises WatermarkError: when it is no boolean.
    """
    value = conf.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise WatermarkError(
        f"The run conf's `{name}: {value!r}` is not a boolean. Nothing was changed; write true or false, without quotes."
    )


def _window(lower: int, upper: int) -> Window:
    try:
        return Window(lower, upper)
    except ValueError as error:
        raise WatermarkError(f"The asked range is empty: {error}. Nothing was moved; swap the bounds.") from error


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _INTEGER.fullmatch(value) is not None)


def read_bound(value: Any) -> int:
    """Read one bound: an integer (epoch microseconds, or an integer cursor), or an ISO time; UTC when it has no zone.

    :raises WatermarkError: when it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        if _INTEGER.fullmatch(value):
            return int(value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None:
            return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    raise WatermarkError(
        f"The bound {value!r} is neither a time nor an integer. Nothing was moved; write 2026-11-24T00:00:00+00:00, or epoch "
        "microseconds."
    )
