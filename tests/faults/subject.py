"""A warm table with its cold table: rows are put in and kept in mind, runs move them, faults strike."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from tests.faults.lab import Lane
from tests.faults.processes import Worker
from tests.faults.shapes import Draw, Row, Shape, for_driver
from tests.faults.witness.cold import ColdTable
from tests.faults.witness.ledger import Moved


class MissedError(Exception):
    """A fault did not strike: an error of the harness, whatever came of the case."""


class Subject:
    """What one fault after the other strikes.

    :param window_rows: rows after which a backlog is cut into another window.
    :param mutations: guards that its runs do without.
    :ivar sent: every row that was ever put into the warm table: the cold tier has to hold them all.
    :ivar warm_now: those that the warm table still holds; None where the product may delete there.
    :ivar excused: rows that need not be cold while the warm table holds them: a run may refuse to move them.
    :ivar foreign: rows that another program has put into the cold table.
    :ivar ledger_lost: the ledger has forgotten windows; it cannot be asked for all of them any more.
    :ivar spent: what was done to it cannot be undone: the next case takes another one.
    :ivar strikes: what really struck in the present case, in words.
    """

    def __init__(
        self,
        lane: Lane,
        shape: Shape,
        window_rows: int = 60,
        mutations: Sequence[str] = (),
        name: str | None = None,
        source: str | None = None,
    ) -> None:
        self.lane, self.lab, self.shape = lane, lane.lab, shape
        self.mutations = list(mutations)
        self.name = name or f"{'upsert' if shape.is_upsert else 'append'}_{uuid.uuid4().hex[:8]}"
        self.source, self.target = source or f"faults.{self.name}", f"cold.{self.name}"
        self.pipeline = "k2"
        self.runs = self.ids = 0
        self.ledger_lost = self.spent = False
        self.strikes: list[str] = []
        self.sent: list[Row] = []
        self.warm_now: Counter[Row] | None = Counter()
        self.foreign: Counter[Row] = Counter()
        self.excused: Counter[Row] = Counter()
        self.durations: list[float] = []
        self.table: dict[str, Any] = {
            **shape.entry,
            "source": self.source,
            "target": self.target,
            "layer": "bronze",
            "safety_lag": 0,
            "window_rows": window_rows,
            "engine": "direct",
        }
        if source is None:
            self.create_source()

    @property
    def mode(self) -> str:
        return "upsert" if self.shape.is_upsert else "append"

    @property
    def tables(self) -> dict[str, Any]:
        """The table list that its runs read."""
        return {"pipeline": self.pipeline, "tables": [self.table]}

    def create_source(self) -> None:
        self.lane.warm.execute(self.shape.ddl(self.source))

    # What struck ------------------------------------------------------------------------------------------------------

    def struck(self, *what: str) -> None:
        """Write down what was seen to strike."""
        self.strikes.extend(what)

    def needs(self, seen: Any, what: str) -> None:
        """Make sure that a fault struck, and write it down.

        :param seen: the evidence; false is none.
        :raises MissedError: when it did not.
        """
        if not seen:
            raise MissedError(f"it was not seen that {what}")
        self.struck(what)

    def needs_broken(self, service: str) -> None:
        """The same for a service's proxies: they say themselves what they have broken."""
        broken = self.lane.broken_at(service) + (self.lane.answers.strikes if service == "catalog" else [])
        if not broken:
            raise MissedError(f"no connection of the {service} was in use while it was broken")
        self.struck(*broken)

    # Rows -------------------------------------------------------------------------------------------------------------

    def draw(self, count: int, late: float = 0.1, duplicates: float = 0.05) -> list[Row]:
        """Rows whose cursors lie between now and now: none is below a bound that a run has taken before.

        Some arrive days after their event time, many share a cursor, some are exact duplicates of each other.
        """
        rng = self.lane.random
        first = self.lane.warm.now()
        time.sleep(0.004)
        span = max(1, self.lane.warm.now() - first)
        cursors = sorted(first + rng.randrange(span) for _ in range(max(1, count // 3)))
        rows: list[Row] = []
        keys: set[Row] = set()
        while len(rows) < count:
            self.ids += 1
            row = self.shape.draw(Draw(rng, self.ids, first, rng.choice(cursors), late, self.runs))
            if not self.shape.is_upsert:
                rows.extend([row] * (2 if self.shape.duplicates and rng.random() < duplicates else 1))
            elif self.shape.key(row) not in keys:
                # One version of a key in a batch: of two with the same cursor nobody could say which is the last.
                keys.add(self.shape.key(row))
                rows.append(row)
        return rows

    def insert(self, count: int, late: float = 0.1, duplicates: float = 0.05) -> list[Row]:
        """Draw rows and put them in."""
        return self.put(self.draw(count, late, duplicates))

    def put(self, rows: list[Row]) -> list[Row]:
        """Put rows into the warm table, and keep them in mind: the cold tier has to hold them."""
        self.lane.warm.insert(self.shape, self.source, rows)
        self.sent.extend(rows)
        if self.warm_now is not None:
            self.warm_now.update(rows)
        return rows

    def fill_windows(self, windows: int) -> None:
        """Put so many rows in that the next run cuts them into at least so many windows."""
        if windows > 1 and self.lab.engine == "direct":
            self.insert((windows - 1) * int(self.table["window_rows"]) + 20)

    def delete_warm(self, where: str, gone: Callable[[Row], bool]) -> int:
        """Delete warm rows, as a TTL or a person does; how many, as ClickHouse counts before and after.

        :param where: the condition in SQL.
        :param gone: the same in Python.
        """
        before = sum(self.warm_rows().values())
        self.lane.warm.execute(f"ALTER TABLE {self.source} DELETE WHERE {where} SETTINGS mutations_sync = 2")
        if self.warm_now is not None:
            self.warm_now = Counter({row: count for row, count in self.warm_now.items() if not gone(row)})
        return before - sum(self.warm_rows().values())

    def warm_rows(self, where: str = "1") -> Counter[Row]:
        return self.lane.warm.rows(self.shape, self.source, where)

    def expected(self) -> Counter[Row]:
        """What the cold tier has to hold: every row ever sent, and what others have put in."""
        return self.shape.cold(self.sent) + self.foreign

    def cold(self) -> ColdTable:
        return self.lab.store.table(self.target)

    def cold_rows(self) -> Counter[Row]:
        return self.cold().rows(self.shape)

    def compare(self) -> tuple[int, int]:
        """Rows lost and duplicated in the cold tier."""
        expected, held = self.expected(), self.cold_rows()
        return sum((expected - held).values()), sum((held - expected).values())

    def windows(self) -> list[Moved]:
        return self.lab.ledger.windows(self.target)

    # Runs -------------------------------------------------------------------------------------------------------------

    def start(self, failpoints: str = "", **options: Any) -> Worker:
        """Start a run in a process of its own."""
        self.runs += 1
        job = {
            "tables": self.tables,
            "failpoints": failpoints,
            "run_id": f"run-{self.runs}",
            "holder": f"holder-{self.runs}",
            "mutations": self.mutations,
            "engine": self.lab.engine,
            "spark_submit": self.lab.spark_submit,
            **options,
        }
        return self.lane.start(job)

    def run(self, failpoints: str = "", **options: Any) -> dict[str, Any]:
        """Run to the end, whatever it is."""
        worker = self.start(failpoints, **options)
        said = worker.wait()
        if said["ok"]:
            self.durations.append(worker.seconds)
        return said

    def must_run(self, **options: Any) -> dict[str, Any]:
        """Run to a good end, as every run must that nothing strikes."""
        said = self.run(**options)
        assert said["ok"], f"a run that nothing struck fails: {said['error']}: {said['message'][:300]}"
        return said

    def command(self, *arguments: str, failpoints: str = "", others: Sequence[dict[str, Any]] = ()) -> Worker:
        """Start a ``k2`` command about this table.

        :param others: further entries of the table list.
        """
        tables = {**self.tables, "tables": [self.table, *others]}
        job = {"tables": tables, "command": list(arguments), "failpoints": failpoints, "mutations": self.mutations}
        return self.lane.start(job)

    def recover(self, seconds: float = 180, **options: Any) -> tuple[float, str]:
        """Let the next scheduled run finish, with a retry as Airflow does.

        Seconds that it took, and an error or nothing.
        """
        started = time.monotonic()
        said: dict[str, Any] = {}
        for _ in range(3):
            said = self.run(wait=10, **options)
            if said["ok"]:
                return time.monotonic() - started, ""
            if time.monotonic() - started > seconds:
                break
        return time.monotonic() - started, f"the next run fails: {said['error']}: {said['message'][:300]}"

    def expire_lease(self) -> bool:
        """Let the lease run out; whether somebody held it."""
        return self.lab.ledger.expire(self.target)

    @contextmanager
    def held(self, failpoint: str, **options: Any) -> Iterator[tuple[Worker, Callable[[], None]]]:
        """A run that waits at a failpoint; yields its worker and what lets it go on.

        :raises MissedError: when the run never comes to it.
        """
        name, _, nth = failpoint.partition("@")
        with holding(self.start(f"{name}@{nth or 1}=hold", **options), name) as held:
            yield held

    # What people and other programs do --------------------------------------------------------------------------------

    def append_foreign(self) -> None:
        """Append two rows, as another program does, far from every window and key."""
        self.ids += 1
        far = 4_000_000_000_000_000 + self.ids
        price = Decimal(self.ids).scaleb(-8)
        row: Row = (
            ("FOREIGN", far, price, self.ids)
            if self.shape.is_upsert
            else (far, "FOREIGN", price, 2**63 + self.ids, ("foreign",), far)
        )
        self.put_foreign([row, row])

    def put_foreign(self, rows: list[Row]) -> None:
        """Append rows to the cold table by pyiceberg."""
        import pyarrow as pa

        table = self.lab.store.catalog.load_table(self.target)
        kinds = [self.shape.columns[name] for name in self.shape.cold_names]
        schema = table.schema().as_arrow()
        columns = [
            pa.array([_for_arrow(kind, value, column.type) for value in values], column.type)
            for kind, column, *values in zip(kinds, schema, *rows, strict=True)
        ]
        table.append(pa.Table.from_arrays(columns, schema=schema))
        self.foreign.update(rows)

    def compact(self) -> None:
        """Rewrite all rows into new files, as a foreign program does that has no better way than an overwrite."""
        table = self.lab.store.catalog.load_table(self.target)
        if table.metadata.current_snapshot_id is not None:
            table.overwrite(table.scan().to_arrow())


@contextmanager
def holding(worker: Worker, name: str) -> Iterator[tuple[Worker, Callable[[], None]]]:
    """Wait until a worker stands at a failpoint; it goes on in the end, whatever happens.

    :raises MissedError: when it never comes to it.
    """
    go = worker.folder / f"{name}.go"
    reached = worker.until((worker.folder / f"{name}.reached").exists, 120)
    try:
        if not reached:
            raise MissedError(
                f"the run ended, or hung, before it came to {name}: {worker.points[-3:]}; {worker.log[-300:]}"
            )
        yield worker, go.touch
    finally:
        go.touch()
        if not worker.done.wait(180):
            worker.signal(9)


def _for_arrow(kind: str, value: Any, wanted: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_decimal(wanted):
        return Decimal(value)
    return for_driver(kind, value)
