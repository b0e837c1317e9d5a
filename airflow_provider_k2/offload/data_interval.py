"""Whether a dag run is for its data interval, which nearly every run has without being asked for. Pure.

A backfill run is. A scheduled run is not: it continues from the watermark. For a manual run, Airflow guesses the
interval from the date of triggering, so only one that differs from that guess was typed in by a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import RunConfError

if TYPE_CHECKING:
    from collections.abc import Callable

MANUAL = ("manual", "operator_triggered")
"""Run types that a person or another DAG triggers; the second one is Airflow 3.3's."""

PATIENCE = timedelta(hours=1)
"""How far the logical date may be from the moment of triggering without counting as chosen: the form shows when it

was opened.
"""

Interval = tuple[datetime, datetime]


@dataclass(frozen=True)
class RunFacts:
    """What Airflow says of a dag run.

    :param run_type: Airflow's run type.
    :param start: start of the data interval; None if there is none.
    :param end: its end.
    :param logical_date: None for a run of Airflow 3 without one.
    :param made_at: when the run was triggered; None if that is not known.
    """

    run_type: str
    start: datetime | None = None
    end: datetime | None = None
    logical_date: datetime | None = None
    made_at: datetime | None = None


def asked_interval(
    run: RunFacts, guess: Callable[[datetime], Interval | None], keys: tuple[str, str] = ("lower", "upper")
) -> Interval | None:
    """Return the data interval if the run is for it, else None.

    :param run: the dag run.
    :param guess: the interval that the DAG's timetable gives a manual run of a date; None without a timetable.
    :param keys: names of the run conf's bounds, for messages.
    :raises RunConfError: for a manual run of a chosen logical date, which could mean either.
    """
    given = None if run.start is None or run.end is None else (run.start, run.end)
    if run.run_type == "backfill":
        return given
    if run.run_type not in MANUAL:
        return None
    dates = [date for date in (run.logical_date, run.made_at) if date is not None]
    if given is not None:
        guesses = [guessed for guessed in map(guess, dates) if guessed is not None]
        if given not in guesses and (guesses or given[0] < given[1]):
            return given
    if run.logical_date is not None and run.made_at is not None and abs(run.made_at - run.logical_date) > PATIENCE:
        raise RunConfError(
            f"This run was triggered on {_utc(run.made_at)} for the logical date "
            f"{_utc(run.logical_date)}, but a manual run continues from the watermark, whatever its "
            "date",
            untouched="Nothing was changed",
            fix=(
                f"for a range, trigger it with `{keys[0]}` and `{keys[1]}` in the run conf; "
                "otherwise leave the logical date out"
            ),
        )
    return None


def is_past(run: RunFacts, now: datetime) -> bool:
    """Whether a scheduled run is one of the past that somebody has cleared (or that was caught up)."""
    return run.end is not None and now - run.end > PATIENCE


def describe_past(run: RunFacts, keys: tuple[str, str] = ("lower", "upper")) -> str:
    """What a scheduled run of the past does now, for its log, because a reader would expect its data interval."""
    interval = "" if run.start is None or run.end is None else f", {_utc(run.start)} to {_utc(run.end)}"
    return (
        f"this is a scheduled run of the past{interval}, but no scheduled run moves its data interval: it does "
        f"the same as a run of now. For a range, trigger one with `{keys[0]}` and `{keys[1]}` in the run conf, or "
        f"backfill this DAG."
    )


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
