"""Reads of a view while its table is filled, offloaded, repaired, rewritten and dropped: each is exact, row for row."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.windows import Window
from tests.integration.pair import HOUR
from tests.integration.retention.support import ago

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.views.support import Viewed

COLUMNS = "symbol, toString(price), toUnixTimestamp64Micro(at), tags, note"


@dataclass
class Truth:
    """What was inserted, and when: every row of the table, whatever tier it is in by now.

    :ivar states: the rows after each insert.
    """

    is_upsert: bool
    states: list[Counter[Any]] = field(default_factory=lambda: [Counter()])
    done: int = 0
    _rows: dict[Any, Any] = field(default_factory=dict)

    def begin(self, rows: list[tuple[Any, ...]]) -> None:
        """Say which rows are about to be inserted; those of an upsert table replace the ones with their key."""
        for row in rows:
            self._rows[(row[0], row[2]) if self.is_upsert else (row, len(self._rows))] = row
        self.states.append(Counter(self._rows.values()))

    def end(self) -> None:
        """Say that they are there."""
        self.done = len(self.states) - 1

    def problem(self, first: int, rows: list[tuple[Any, ...]]) -> str | None:
        """What is wrong with a read that began when a state was there, and ends now."""
        seen = Counter((row[0], row[1], row[2], tuple(row[3]), row[4]) for row in rows)
        possible = self.states[first:]
        if seen in possible:
            return None
        wanted = possible[0]
        return f"{seen - wanted} too many, {wanted - seen} missing"


class Story:
    """One table that lives through everything, in a thread of its own, while others read.

    :param table: the table, with its view.
    """

    def __init__(self, table: Viewed) -> None:
        self.table, self.truth = table, Truth(table.mode == "upsert")
        self.error: BaseException | None = None
        self.dropped = 0

    def insert(self, day: int, hours: range, price: int, arrived: int | None = None) -> int:
        """Insert a row for each hour of a day; returns when they arrived: now, unless they are late."""
        came = arrived or self.table.clickhouse.now()
        rows = [
            (("BTC", "ETH")[hour % 2], str(price), ago(day) + hour * HOUR, ("a", str(hour)), None if hour % 3 else "n")
            for hour in hours
        ]
        values = ", ".join(
            f"('{symbol}', fromUnixTimestamp64Micro({at}, 'UTC'), {price}, {list(tags)}, "
            f"{'NULL' if note is None else repr(note)}, fromUnixTimestamp64Micro({came}, 'UTC'))"
            for symbol, price, at, tags, note in rows
        )
        self.truth.begin(rows)
        self.table.sql(f"INSERT INTO {{t}} VALUES {values}")
        self.truth.end()
        return came

    def live(self, day: int) -> None:
        """What happens to the rows of one day."""
        table = self.table
        came = self.insert(day, range(6), 100)
        table.offload()
        # Several parts, so that a drop takes several steps.
        self.insert(day, range(6, 12), 100)
        table.offload()
        if table.mode == "upsert":
            # Every other key anew, and two whose partition is gone.
            self.insert(day, range(0, 12, 2), 200)
            self.insert(day + 1, range(2), 200 + day)
            table.offload()
        else:
            # Late ones, some of them equal to others.
            self.insert(day, range(3), 300, came + 1)
            self.insert(day, range(2), 100, came + 1)
            table.repair(table.verify())
            table.offload(kind="backfill", window=Window(came, came + 2))
        # Somebody writes the cold table anew: other files, the same rows.
        cold = table.cold
        cold.overwrite(cold.scan().to_arrow())
        report = table.gate()
        assert not report.failed, report
        self.dropped += len(report.dropped)

    def run(self, days: range) -> None:
        try:
            for day in days:
                self.live(day)
        except BaseException as error:  # noqa: BLE001 - raised by the test
            self.error = error


def _read_along(story: Story, days: range, reads: int, more: Callable[[int], range]) -> int:
    """Read as long as the story goes on, and it goes on until there are enough reads; returns how many there were."""
    table, truth, done = story.table, story.truth, 0
    while done < reads:
        thread = threading.Thread(target=story.run, args=(days,))
        thread.start()
        while thread.is_alive():
            first = truth.done
            rows = table.sql(f"SELECT {COLUMNS} FROM {table.view}")
            assert (problem := truth.problem(first, rows)) is None, f"read {done}: {problem}"
            done += 1
        thread.join()
        if story.error is not None:
            raise story.error
        days = more(days.stop)
    return done


@pytest.fixture(params=["append", "upsert"])
def story(request, viewed):
    # Rows arrive now, and their age is that of their event time: so they can be dropped at once.
    retention = {"keep": "7d", "column": "at"}
    table = viewed(request.param, retention=retention, order="PARTITION BY toDate(at, 'UTC')")
    story = Story(table)
    story.insert(401, range(4), 1)
    table.offload()
    table.apply()
    return story


def test_every_read_is_exact(story):
    done = _read_along(story, range(400, 399, -1), 1, lambda stop: range(stop, stop))
    assert done >= 20
    assert story.dropped >= 2
    story.insert(1, range(4), 5)
    assert story.table.warm_rows() == 4
    rows = story.table.sql(f"SELECT {COLUMNS} FROM {story.table.view}")
    assert story.truth.problem(story.truth.done, rows) is None


@pytest.mark.slow
def test_five_hundred_reads_are_exact(story):
    assert _read_along(story, range(400, 395, -1), 500, lambda stop: range(stop, stop - 5, -1)) >= 500
    assert story.dropped >= 5
