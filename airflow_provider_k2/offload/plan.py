"""Which windows a run moves: its range, cut by rows, and the ranges that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import ReplacedByLessError, RunConfError
from airflow_provider_k2.windows import Window, cut, describe_cursor, seems_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.engines.base import Engine
    from airflow_provider_k2.offload.agreed import Agreed
    from airflow_provider_k2.offload.run_context import RunContext


class WindowPlan:
    """The windows of one run.

    :param run: the run.
    :param agreed: where its table stands.
    :param choose_engine: gives the engine for the next window, where so many rows are left.
    """

    def __init__(self, run: RunContext, agreed: Agreed, choose_engine: Callable[[int], Engine]) -> None:
        self.run, self.agreed, self.choose_engine = run, agreed, choose_engine
        self.table, self.request, self.warm, self.is_time = run.table, run.request, run.warm, run.is_time

    def windows(self) -> Iterator[tuple[Window, Engine]]:
        """Cut the range of this run into windows; each is planned when the one before is recorded."""
        whole = self._whole()
        self.run.report.lower, self.run.report.upper = whole.lower, whole.upper
        if whole.is_empty:
            return
        rest, left = whole, self.warm.count(whole)
        while not rest.is_empty:
            engine = self.choose_engine(left)
            if self.request.dead:
                # What replaces a file that cannot be read comes with the commit that takes it out.
                yield whole, engine
                return
            rows = self.table.window_rows
            # A JVM's start costs seconds: Spark gets windows that are worth it.
            rows = max(rows, self.table.spark_rows) if engine.name == "spark" else rows
            window = next(cut(rest, rows, self.warm.cursor_at))
            yield window, engine
            rest, left = rest.part(window.upper, rest.upper), max(left - rows, 0)

    def _whole(self) -> Window:
        """The whole range of this run."""
        asked, watermark, horizon = self.request.window, self.agreed.watermark, self.agreed.horizon
        if asked is None:
            return Window(watermark, max(watermark, horizon), self.is_time)
        asked = Window(asked.lower, asked.upper, self.is_time)
        self._refuse_wrong_bounds(asked)
        self._refuse_emptied_columns()
        if asked.upper <= horizon:
            return asked
        end = describe_cursor(horizon, self.is_time)
        why = "a safety lag before the warm tier's now" if self.is_time else "above the largest cursor value"
        # Not below the watermark: an integer cursor's source may have been emptied since.
        if asked.lower >= max(horizon, watermark) and self.request.kind == "backfill":
            raise RunConfError(
                f"the range {asked.describe()} lies wholly in the future: windows end at {end} now, {why}",
                table=self.table.name,
                untouched="Nothing was moved",
                fix="correct the range, or run it again once its rows are there",
            )
        self.run.log.warning(
            "%s: the range %s reaches into the future; it is cut at %s, %s.",
            *(self.table.name, asked.describe(), end, why),
        )
        return asked.part(min(asked.lower, horizon), horizon)

    def _refuse_wrong_bounds(self, asked: Window) -> None:
        """Refuse a range that is empty only because of how it was written: a run that moves nothing would look right.

        :raises RunConfError: for times and an integer cursor, and for integers that are no epoch microseconds.
        """
        if self.request.of_time and not self.is_time:
            raise RunConfError(
                f"this run is about a range of time, but the cursor {self.table.cursor} is an "
                f"integer ({self.warm.cursor_type})",
                table=self.table.name,
                untouched="Nothing was moved",
                fix="trigger a run with integers as `lower` and `upper`",
            )
        given = self.is_time and not self.request.of_time and self.request.kind == "backfill"
        if given and asked.upper > 0 and not seems_time(asked.upper):
            raise RunConfError(
                f"the range ends at {asked.upper}, which as epoch microseconds is no recent time",
                table=self.table.name,
                untouched="Nothing was moved",
                fix="write times, like 2026-11-24T00:00:00+00:00",
            )

    def _refuse_emptied_columns(self) -> None:
        """Refuse to do a range of an upsert table again whose values may be gone while its keys are there.

        Rows of an append table are compared by their content before they are replaced.

        :raises ReplacedByLessError: naming the columns that have a TTL of their own.
        """
        emptied = self.warm.emptied_columns
        if emptied and self.table.mode == "upsert" and not self.request.force:
            raise ReplacedByLessError(
                f"ClickHouse empties column {', '.join(emptied)} of {self.table.identity_source} "
                "after a time (it has a TTL of its own), so rows that are done again could overwrite "
                "good values of the cold tier with empty ones",
                table=self.table.name,
                untouched="Nothing was replaced (docs/errors.md, When a cold row is wrong)",
            )
