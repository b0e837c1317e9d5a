"""Model check of the commit protocol.

Hypothesis looks for an order of crashes, zombies, lost answers, late commits, rollbacks
and ledger losses after which a clean run does not leave every row in the cold table exactly as often as it must.

The code under test is the real one: :mod:`offload`, :mod:`agreement`, :mod:`commit`, the direct engine's commit,
pyiceberg with a SQL catalog. Modelled are the warm tier (a list), the ledger (a dictionary with the hook's semantics)
and time (a number).
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.commit import expiry
from airflow_provider_k2.commit import replace as commit_module
from airflow_provider_k2.commit.archive import history
from airflow_provider_k2.commit.cold_state import find_commit, has_commit_of_ours
from airflow_provider_k2.engines import base, direct
from airflow_provider_k2.exceptions import K2Error, LeaseHeldError, LeaseLostError, ReplacedByLessError, ServiceError
from airflow_provider_k2.hooks.ledger_rows import Lease, StoredWatermark, WindowRecord
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.offload import agreed, move, run
from airflow_provider_k2.offload import prepare as preparation
from airflow_provider_k2.offload.request import Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.tables.reader import parse_tables
from airflow_provider_k2.warm.source import WarmFacts, WarmPart, WarmTable
from airflow_provider_k2.windows import Window

STEPS = (
    "after_lease",
    "after_agree",
    "after_claim",
    "after_proof",
    "before_commit",
    "after_commit",
    "before_record",
    "after_record",
)
STRUCK = (run, agreed, move, commit_module, base)
"""Modules that pass the steps."""
ANSWERS = ("lost", "refused", "late", "twice")
Row = tuple[int, int, int]


class Crash(BaseException):
    """The process is gone."""


class Ledger:
    """What PostgreSQL holds, with the semantics of WatermarkHook."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.mark: StoredWatermark | None = None
        self.windows: dict[str, WindowRecord] = {}
        self.expired = False

    def acquire(self, table: TableConfig, holder: str, seconds: int) -> Lease:
        held = self.lease
        if held and held["holder"] not in (None, holder) and not self.expired:
            raise LeaseHeldError("held")
        self.lease = {"holder": holder, "token": (held["token"] if held else 0) + 1}
        self.expired = False
        return Lease(table.pipeline, table.target, holder, self.lease["token"])

    def _check(self, lease: Lease) -> None:
        if self.lease != {"holder": lease.holder, "token": lease.token}:
            raise LeaseLostError("lost")

    def ensure_token(self, lease: Lease, seen: int) -> Lease:
        self._check(lease)
        assert self.lease
        self.lease["token"] = max(lease.token, seen + 1)
        return replace(lease, token=self.lease["token"])

    def renew(self, lease: Lease, seconds: int) -> None:
        self._check(lease)
        self.expired = False

    def release(self, lease: Lease) -> None:
        if self.lease and self.lease["token"] == lease.token:
            self.lease["holder"] = None

    def watermark(self, table: TableConfig) -> StoredWatermark | None:
        return self.mark

    def set_watermark(self, table: TableConfig, value: int, identities: tuple[str, str], **_: str) -> None:
        self.mark = StoredWatermark(value, *identities, datetime.now(UTC))

    def claim(self, table: TableConfig, window: Window, kind: str, engine: str, run_id: str, lease: Lease) -> str:
        self._check(lease)
        name = str(uuid.uuid4())
        at = datetime.now(UTC)
        self.windows[name] = WindowRecord(
            name,
            table.pipeline,
            table.target,
            kind,
            window.lower,
            window.upper,
            "claimed",
            engine,
            run_id,
            lease.token,
            None,
            None,
            None,
            None,
            at,
            None,
            None,
            None,
        )
        return name

    def commit(self, table: TableConfig, window_id: str, **what: Any) -> None:
        self._check(what["lease"])
        if window_id in self.windows:
            self.windows[window_id] = replace(self.windows[window_id], state="committed", rows=what["rows"])
        if what["watermark"] is not None:
            self.set_watermark(table, what["watermark"], what["identities"])

    def fail(self, window_id: str, error: str) -> None:
        if window_id in self.windows and self.windows[window_id].state == "claimed":
            self.windows[window_id] = replace(self.windows[window_id], state="failed")

    def adopt(self, table: TableConfig, records: list[WindowRecord]) -> None:
        self.windows |= {record.window_id: record for record in records}

    def committed_after(self, table: TableConfig, watermark: int) -> list[WindowRecord]:
        found = [
            window
            for window in self.windows.values()
            if window.state == "committed" and window.kind == "scheduled" and window.upper > watermark
        ]
        return sorted(found, key=lambda window: (window.lower, window.upper))


class Handle:
    """One process's connection to the ledger: a dead process does nothing more."""

    def __init__(self, machine: ProtocolMachine) -> None:
        self.machine, self.dead = machine, False

    def __getattr__(self, name: str) -> Any:
        if self.dead:

            def gone(*_: Any, **__: Any) -> None:
                raise ServiceError("the process is dead", service="ClickHouse")

            return gone
        return getattr(self.machine.ledger, name)


class Clock:
    """A warm tier of which only the time matters: each of its queries is the model's."""

    def now(self) -> int:
        return 2**60


class Catalog(SqlCatalog):
    """A catalog whose answers to commits get lost."""

    answer: str | None = None
    late: list[tuple[Any, ...]]

    def commit_table(self, table: Any, requirements: Any, updates: Any) -> Any:
        answer, self.answer = self.answer, None
        if answer == "refused":
            raise RuntimeError("503")
        if answer == "late":
            self.late.append((table, requirements, updates))
            raise RuntimeError("timeout")
        response = super().commit_table(table, requirements, updates)
        if answer == "lost":
            raise RuntimeError("connection reset")
        if answer == "twice":
            return super().commit_table(table, requirements, updates)
        return response


class Warm(WarmTable):
    """The warm tier as a list of rows: id, value, cursor."""

    machine: ProtocolMachine
    columns = {"id": "Int64", "value": "Int64", "cur": "Int64"}  # type: ignore[assignment]  # noqa: RUF012
    emptied_columns = ()  # type: ignore[assignment]
    lineage = ()  # type: ignore[assignment]

    def uuid(self) -> str:
        return "source"

    def latest(self) -> int:
        return self.machine.now

    def horizon(self, latest: int | None = None) -> int:
        return self.machine.now if latest is None else latest

    def count(self, window: Window) -> int:
        return sum(row[2] in window for row in self.machine.rows)

    def cursor_at(self, window: Window, offset: int) -> int | None:
        found = sorted(row[2] for row in self.machine.rows if row[2] in window)
        return found[offset] if offset < len(found) else None

    def taken(self, window: Window) -> list[Row]:
        seen = Window(window.lower, max(window.upper, self.known_to))
        found = [row for row in self.machine.rows if row[2] in seen]
        if self.table.mode == "upsert":
            found = list({row[0]: row for row in sorted(found, key=lambda row: row[2])}.values())
        return [row for row in found if row[2] in window]

    def facts(self, window: Window, partition: Any) -> WarmFacts:
        rows = self.taken(window)
        return WarmFacts((WarmPart((), *checksum([_batch(rows)]), window),) if rows else ())


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.RecordBatch.from_arrays([pa.array(column, pa.int64()) for column in columns], ["id", "value", "cur"])


class Engine(direct.DirectEngine):
    """The direct engine, whose rows come from the list."""

    def _write(self, job: Any, timings: dict[str, float]) -> list[Any]:
        from pyiceberg.io.pyarrow import parquet_file_to_data_file

        rows = job.warm.taken(job.window)
        if not rows:
            return []
        import pyarrow.parquet as pq

        path = f"{job.cold.location()}/data/{job.record.commit_id}.parquet"
        Path(path.removeprefix("file://")).parent.mkdir(parents=True, exist_ok=True)
        batch = _batch(rows)
        with job.cold.io.new_output(path).create(overwrite=True) as stream:
            pq.write_table(pa.Table.from_batches([batch]), stream)
        data_file = parquet_file_to_data_file(job.cold.io, job.cold.metadata, path)
        return [direct.WrittenFile(path, data_file, *checksum([batch]), 0.0, 0.0)]


class Cold:
    """What Offload asks of the cold tier's hook."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def failure(self, error: BaseException) -> None:
        """No error of the model's is a library's."""

    def load(self, target: str) -> Any:
        try:
            return self.catalog.load_table(target)
        except NoSuchTableError:
            return None

    def create(self, table: TableConfig, schema: Any) -> Any:
        self.catalog.create_namespace_if_not_exists("cold")
        properties = {"schema.name-mapping.default": schema.name_mapping.model_dump_json()}
        return self.catalog.create_table(table.target, schema, properties=properties)

    def look_up_commit(self, table: Any, commit_id: str) -> int | None:
        table.refresh()
        found = find_commit(table.metadata, commit_id)
        return found.snapshot_id if found else None


class ProtocolMachine(RuleBasedStateMachine):
    """The world around the protocol."""

    mode = "append"

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="k2-model-")
        self.catalog = Catalog("model", uri=f"sqlite:///{self.folder}/catalog.db", warehouse=f"file://{self.folder}")
        self.catalog.late = []
        self.ledger = Ledger()
        self.copy: Ledger | None = None
        self.rows: list[Row] = []
        self.foreign: Counter[Row] = Counter()
        self.now, self.ids, self.runs = 1, 0, 0
        self.failure: BaseException | None = None
        self.plan: dict[str, Callable[[], None]] = {}
        entry: dict[str, Any] = {
            "source": "model.t",
            "target": "cold.t",
            "layer": "bronze",
            "cursor": "cur",
            "mode": self.mode,
            "window_rows": 3,
        }
        if self.mode == "upsert":
            entry["key"] = ["id"]
        self.table = parse_tables({"tables": [entry]}, "model").tables[0]
        Warm.machine = self
        preparation.WarmTable = Warm  # type: ignore[misc]
        # The list of rows has no TTL, and nothing is dropped from it.
        preparation.Prepared.intact = lambda self, window: None  # type: ignore[method-assign]
        for module in STRUCK:
            module.failpoint = self._failpoint  # type: ignore[attr-defined]

    def _failpoint(self, name: str) -> None:
        # Once: what is nested in an action has a plan of its own.
        action = self.plan.pop(name, None)
        if action is not None:
            action()

    def _run(self, plan: dict[str, Callable[[], None]] | None = None, **asked: Any) -> bool:
        """One process's life; whether it came to a good end."""
        self.runs += 1
        handle = Handle(self)

        def crash(action: Callable[[], None]) -> Callable[[], None]:
            def act() -> None:
                try:
                    action()
                except Crash:
                    handle.dead = True
                    raise

            return act

        before, self.plan = self.plan, {name: crash(action) for name, action in (plan or {}).items()}
        request = Request(run_id=f"r{self.runs}", holder=f"h{self.runs}", wait=0, lease_seconds=10**6, **asked)
        try:
            services = Services(Clock(), Cold(self.catalog), handle)  # type: ignore[arg-type]
            Offload(self.table, services, lambda _: Engine()).run(request)  # type: ignore[arg-type]
        except (Crash, K2Error) as error:
            self.failure = error
            return False
        finally:
            self.plan = before
        return True

    def _die(self) -> None:
        raise Crash

    def _cold_table(self) -> Any:
        return self.catalog.load_table("cold.t") if self.catalog.table_exists("cold.t") else None

    def _held(self) -> Counter[Row]:
        table = self._cold_table()
        if table is None:
            return Counter()
        found = table.scan().to_arrow()
        return Counter(zip(*(found[name].to_pylist() for name in ("id", "value", "cur")), strict=True))

    # What happens -----------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 7), ties=st.booleans(), data=st.data())
    def insert(self, count: int, ties: bool, data: st.DataObject) -> None:
        keys = data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count, unique=True))
        for key in keys:
            self.ids += 1
            row = (self.ids if self.mode == "append" else key, self.ids, self.now)
            # Now and then an exact duplicate of a legitimate row.
            self.rows += [row] * (2 if self.mode == "append" and key == 1 else 1)
            self.now += 0 if ties else 1
        self.now += 1

    @rule()
    def time_passes(self) -> None:
        self.ledger.expired = True
        self.now += 1

    @rule(step=st.sampled_from(STEPS))
    def crash(self, step: str) -> None:
        self._run({step: self._die})

    @rule(answer=st.sampled_from(ANSWERS))
    def lost_answer(self, answer: str) -> None:
        self._run({"before_commit": lambda: setattr(self.catalog, "answer", answer)})
        self.catalog.answer = None

    @rule()
    def late_commit_lands(self) -> None:
        late, self.catalog.late = self.catalog.late, []
        for call in late:
            try:
                self.catalog.commit_table(*call)
            except (CommitFailedException, ValueError):
                # A catalog in a database says so where the sequence number has been used, or a snapshot is gone.
                continue

    @rule(step=st.sampled_from(STEPS), rows=st.booleans(), late=st.booleans())
    def zombie(self, step: str, rows: bool, late: bool) -> None:
        def sleep() -> None:
            self.ledger.expired = True
            if rows:
                self.rows.append((1 if self.mode == "upsert" else -self.now, self.now, self.now))
                self.now += 1
            self._run()
            if late:
                self.late_commit_lands()

        self._run({step: sleep})

    @rule(step=st.sampled_from(STEPS), lower=st.integers(1, 40), length=st.integers(1, 40), die=st.booleans())
    def backfill(self, step: str, lower: int, length: int, die: bool) -> None:
        window = Window(lower, lower + length)
        self._run({step: self._die} if die else {}, window=window, kind="backfill")

    @rule(step=st.sampled_from(STEPS))
    def ledger_is_lost(self, step: str) -> None:
        self._run({step: lambda: setattr(self, "ledger", Ledger())})

    @rule()
    def ledger_is_copied(self) -> None:
        self.copy = copy.deepcopy(self.ledger)

    @rule(step=st.sampled_from(STEPS))
    def ledger_is_restored(self, step: str) -> None:
        if self.copy is not None:
            self._run({step: lambda: setattr(self, "ledger", copy.deepcopy(self.copy))})

    @rule(back=st.integers(1, 4))
    def cold_table_is_rolled_back(self, back: int) -> None:
        table = self._cold_table()
        if table is None:
            return
        chain = [entry.snapshot_id for entry in table.history()]
        current = table.metadata.current_snapshot_id
        line = []
        snapshot = table.current_snapshot()
        while snapshot is not None:
            line.append(snapshot.snapshot_id)
            snapshot = (
                table.metadata.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None
            )
        if len(line) <= back or current not in chain:
            return
        table.manage_snapshots().rollback_to_snapshot(line[back]).commit()
        held = self._held()
        self.foreign = Counter({row: count for row, count in self.foreign.items() if row in held})

    @rule(step=st.sampled_from(STEPS))
    def somebody_else_appends(self, step: str) -> None:
        def append() -> None:
            table = self._cold_table()
            if table is not None:
                self.ids += 1
                row = (10**9 + self.ids, self.ids, 10**9)
                table.append(pa.Table.from_batches([_batch([row])]).cast(table.schema().as_arrow()))
                self.foreign[row] += 1

        self._run({step: append})

    # What must hold ---------------------------------------------------------------------------------------------------

    @rule()
    def next_run(self) -> None:
        self._check()

    def _check(self) -> None:
        self.ledger.expired = True
        self.now += 1
        if not self._run():
            # Somebody else's rows, and neither tier remembers a run of ours: a person says so by `start`.
            assert isinstance(self.failure, ReplacedByLessError), self.failure
            assert self.ledger.mark is None
            assert not has_commit_of_ours(self._cold_table().metadata)
            assert "add `start`" in str(self.failure)
            self.table = replace(self.table, start=0)
            assert self._run(), "the next run fails"
        expected = Counter(self.rows)
        if self.mode == "upsert":
            expected = Counter({row[0]: row for row in sorted(self.rows, key=lambda row: row[2])}.values())
        held = self._held()
        expected += self.foreign
        assert held == expected, f"lost {expected - held}, duplicated {held - expected}"
        assert self.ledger.mark is not None
        assert self.ledger.mark.watermark == self.now
        assert self.ledger.lease is not None
        assert self.ledger.lease["holder"] is None
        table = self._cold_table()
        told = [one.record for one in history(table) if one.record is not None]
        tokens = [record.token for record in told]
        assert tokens == sorted(tokens, reverse=True), f"fencing tokens go back: {tokens[::-1]}"

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            try:
                self.late_commit_lands()
                self._check()
            finally:
                self.catalog.engine.dispose()
                shutil.rmtree(self.folder)


class UpsertMachine(ProtocolMachine):
    """The same in upsert mode."""

    mode = "upsert"


@pytest.fixture(autouse=True)
def _unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine replaces is put back."""
    monkeypatch.setattr(preparation, "WarmTable", preparation.WarmTable)
    # Snapshots are expired all the time, as few are kept as possible.
    for name, number in {"KEEP": 2, "BATCH": 2, "CAP": 3, "AGE_MS": -1, "UNREACHED_AGE_MS": -1}.items():
        monkeypatch.setattr(expiry, name, number)
    # What ClickHouse hides, and what the deletion gate of others asks for, is not part of the model.
    monkeypatch.setattr(preparation, "describe_hidden", lambda *_: ())
    monkeypatch.setattr(preparation, "store_entry", lambda *_: None)
    monkeypatch.setattr(preparation.Prepared, "intact", preparation.Prepared.intact)
    for module in STRUCK:
        monkeypatch.setattr(module, "failpoint", module.failpoint)


@pytest.mark.parametrize("machine", [ProtocolMachine, UpsertMachine], ids=["append", "upsert"])
def test_every_row_is_cold_exactly_once(machine: type[ProtocolMachine]) -> None:
    run_state_machine_as_test(machine, settings=_settings(12, 12))


@pytest.mark.slow
@pytest.mark.parametrize("machine", [ProtocolMachine, UpsertMachine], ids=["append", "upsert"])
def test_every_row_is_cold_exactly_once_in_depth(machine: type[ProtocolMachine]) -> None:
    run_state_machine_as_test(machine, settings=_settings(150, 25))


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
