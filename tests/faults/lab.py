"""The laboratory: real services, proxies before them, worker processes, and the check that follows every fault."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.faults.proxy import CatalogProxy, TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.local import LocalSystem

ROOT = Path(__file__).resolve().parents[2]
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
DAY = 86_400_000_000
_WINDOWS_FILE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[^/]*\.parquet$")


class Nursery:
    """A process that forks workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: dict[int, Worker] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker", "serve"], cwd=ROOT, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=(folder / "nursery.log").open("w"),
        )  # fmt: skip
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._ready.wait(120):
            raise RuntimeError(f"the workers' nursery does not start: {(folder / 'nursery.log').read_text()[-2000:]}")

    def start(self, job: dict[str, Any]) -> Worker:
        with self._lock:
            self._number += 1
            number = self._number
            result = self.folder / f"result-{number}.json"
            worker = self._jobs[number] = Worker(
                result, self.folder / f"worker-{number}.log", self.folder / f"driver-{number}.pid"
            )
            full = {
                **job, "number": number, "result": str(result), "log": str(worker.log), "driver": str(worker.driver),
            }  # fmt: skip
            assert self._process.stdin
            self._process.stdin.write(json.dumps(full) + "\n")
            self._process.stdin.flush()
        worker.born.wait(30)
        return worker

    def learn(self, modules: list[str]) -> None:
        """Import once what every child would import."""
        with self._lock:
            assert self._process.stdin
            self._process.stdin.write(json.dumps({"import": modules}) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        for worker in list(self._jobs.values()):
            if not worker.done.is_set() and worker.pid:
                worker.signal(9)
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said.get("ready"):
                self._ready.set()
                continue
            worker = self._jobs[said["job"]]
            if "pid" in said:
                worker.pid = said["pid"]
                worker.born.set()
            else:
                worker.exit_code = said["ended"]
                worker.done.set()


@dataclass
class Worker:
    """One run in a process of its own."""

    result: Path
    log: Path
    driver: Path
    pid: int = 0
    exit_code: int | None = None
    born: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def driver_pid(self, seconds: float = 60) -> int:
        """Process group of the run's Spark job, once it has been submitted."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.done.is_set():
            if self.driver.exists() and (text := self.driver.read_text()):
                return int(text)
            time.sleep(0.02)
        raise AssertionError("no Spark job was submitted")

    def wait(self, seconds: float = 180) -> dict[str, Any]:
        """What the run says, or how it ended."""
        if not self.done.wait(seconds):
            self.signal(9)
            self.done.wait(10)
            return {"ok": False, "error": "Hung", "message": f"still running after {seconds} s"}
        if self.result.exists():
            said: dict[str, Any] = json.loads(self.result.read_text())
            return said
        return {"ok": False, "error": "Killed", "message": f"ended by signal {-(self.exit_code or 0)}"}


class Lab:
    """The services, shared by every lane."""

    def __init__(self, system: LocalSystem, folder: Path, engine: str = "direct") -> None:
        self.system = system
        self.engine = engine
        self.spark_submit = str(_spark_submit()) if engine == "spark" else None
        self.folder = folder
        self.nursery = Nursery(folder)
        os.environ.update(system.env())
        from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
        from airflow_provider_k2.hooks.watermark import WatermarkHook

        self.clickhouse = ClickHouseHook()
        self.clickhouse.execute("CREATE DATABASE IF NOT EXISTS faults")
        # Makes the ledger's schema.
        WatermarkHook().leases()
        lane = Lane(self, 0)
        subject = Subject(lane, "append")
        subject.insert(3)
        said = subject.run()
        if not said["ok"]:
            raise RuntimeError(f"the offload does not work at all: {said}")
        self.nursery.learn(said["modules"])
        lane.close()

    @cached_property
    def catalog(self) -> Any:
        from pyiceberg.catalog import load_catalog

        return load_catalog("check", **self.system.seaweedfs.catalog_properties())

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One statement to the ledger's database, beside the product's own code."""
        import psycopg

        with closing(psycopg.connect(self.system.postgres.uri("k2"), autocommit=True)) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.nursery.close()


@contextmanager
def laboratory(system: LocalSystem | None = None, engine: str = "direct") -> Iterator[Lab]:
    """A laboratory on a system of its own, or on one that runs."""
    from airflow_provider_k2.local import LocalSystem

    with tempfile.TemporaryDirectory(prefix="k2-faults-") as folder:
        own = LocalSystem(Path(folder) / "system", default_ports=False) if system is None else None
        try:
            if own is not None:
                own.up()
            lab = Lab(own or system, Path(folder), engine)  # type: ignore[arg-type]
            try:
                yield lab
            finally:
                lab.close()
        finally:
            if own is not None:
                own.down()


class Lane:
    """One table at a time, with proxies of its own between its workers and the services."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.random = random.Random(seed)
        system = lab.system
        self.native, self.http = TcpProxy(system.clickhouse.port), TcpProxy(system.clickhouse.http_port)
        self.postgres, self.s3 = TcpProxy(system.postgres.port), TcpProxy(system.seaweedfs.s3_port)
        self.answers = CatalogProxy(system.seaweedfs.port)
        self.catalog = TcpProxy(self.answers.port)
        self.services: dict[str, tuple[TcpProxy, ...]] = {
            "clickhouse": (self.native, self.http),
            "postgres": (self.postgres,),
            "catalog": (self.catalog,),
            "object store": (self.s3,),
        }
        self.orphans: list[psutil.Process] = []
        self.env = self._env()

    def _env(self) -> dict[str, str]:
        env = dict(self.lab.system.env())
        clickhouse = json.loads(env["AIRFLOW_CONN_CLICKHOUSE_DEFAULT"])
        clickhouse["port"], clickhouse["extra"]["http_port"] = self.native.port, self.http.port
        postgres = json.loads(env["AIRFLOW_CONN_POSTGRES_DEFAULT"])
        postgres["port"] = self.postgres.port
        iceberg = json.loads(env["AIRFLOW_CONN_ICEBERG_DEFAULT"])
        iceberg["host"] = f"http://127.0.0.1:{self.catalog.port}"
        iceberg["extra"]["s3.endpoint"] = f"http://127.0.0.1:{self.s3.port}"
        # Production waits longer for an object store that is away.
        iceberg["extra"].update({"s3.connect-timeout": "2", "s3.request-timeout": "4"})
        for name, value in (("CLICKHOUSE", clickhouse), ("POSTGRES", postgres), ("ICEBERG", iceberg)):
            env[f"AIRFLOW_CONN_{name}_DEFAULT"] = json.dumps(value)
        return env

    def heal(self) -> None:
        self.answers.heal()
        for proxies in self.services.values():
            for proxy in proxies:
                proxy.heal()

    def close(self) -> None:
        self.heal()
        for driver in self.orphans:
            # By its start time, too: another program may have the number by now.
            if driver.is_running():
                os.killpg(driver.pid, signal.SIGKILL)
        for proxies in self.services.values():
            for proxy in proxies:
                proxy.close()
        self.answers.close()


@dataclass(frozen=True)
class Verdict:
    """What the check found.

    :param lost: rows that the cold tier has too few times.
    :param duplicated: rows that it has too many times.
    :param wrong: everything else that is not as it must be.
    :param orphans: data files that no snapshot refers to (they must be recognisable).
    """

    rows: int
    lost: int
    duplicated: int
    wrong: tuple[str, ...]
    orphans: int

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)


class Subject:
    """A warm table with its cold table: rows are put in, runs move them, the check compares."""

    def __init__(self, lane: Lane, mode: str, window_rows: int = 60, mutations: Sequence[str] = ()) -> None:
        self.lane, self.lab, self.mode = lane, lane.lab, mode
        self.mutations = list(mutations)
        name = f"{mode}_{uuid.uuid4().hex[:8]}"
        self.source, self.target = f"faults.{name}", f"cold.{name}"
        self.runs = 0
        self.ids = 0
        self.ledger_lost = False
        self.foreign: Counter[tuple[Any, ...]] = Counter()
        self.gone: Counter[tuple[Any, ...]] = Counter()
        if mode == "append":
            columns = (
                "ts DateTime64(6, 'UTC'), symbol LowCardinality(String), price Decimal(18, 8), id UInt64, tags Array(String), "
                "arrived DateTime64(6, 'UTC')"
            )
            self.table: dict[str, Any] = {"cursor": "arrived", "partition": ["day(ts)"]}
        else:
            columns = (
                "symbol String, ts DateTime64(6, 'UTC'), volume Decimal(38, 8), n UInt64, updated DateTime64(6, 'UTC')"
            )
            self.table = {
                "cursor": "updated", "mode": "upsert", "key": ["symbol", "ts"], "event_time": "ts",
                "exclude": ["updated"], "partition": ["month(ts)"], "grows": "n",
            }  # fmt: skip
        self.table |= {
            "source": self.source, "target": self.target, "layer": "bronze", "safety_lag": 0, "window_rows": window_rows,
            "engine": "direct",
        }  # fmt: skip
        self.columns = columns
        self.create_source()

    def create_source(self) -> None:
        self.lab.clickhouse.execute(
            f"CREATE TABLE {self.source} ({self.columns}) ENGINE = MergeTree ORDER BY {self.table['cursor']}"
        )

    # Rows -------------------------------------------------------------------------------------------------------------

    def insert(self, count: int, late: float = 0.1, duplicates: float = 0.05) -> None:
        """Insert rows whose cursors lie between now and now: none is below a bound that a run has taken before.

        Some arrive days after their event time, many share a cursor, some are exact duplicates of each other.
        """
        rng = self.lane.random
        first = self.lab.clickhouse.now()
        time.sleep(0.004)
        span = max(1, self.lab.clickhouse.now() - first)
        cursors = sorted(first + rng.randrange(span) for _ in range(max(1, count // 3)))
        rows: list[tuple[Any, ...]] = []
        keys: set[tuple[Any, ...]] = set()
        while len(rows) < count:
            cursor = rng.choice(cursors)
            event = first - (rng.randrange(3 * DAY) if rng.random() < late else rng.randrange(DAY // 24))
            if self.mode == "append":
                self.ids += 1
                price = Decimal(rng.randrange(10**12)).scaleb(-8)
                row = (event, rng.choice(SYMBOLS), price, self.ids, ["late"] if event < first - DAY else [], cursor)
                rows.extend([row] * (2 if rng.random() < duplicates else 1))
            else:
                key = (rng.choice(SYMBOLS), first // DAY * DAY - rng.randrange(400) * 60_000_000)
                if key not in keys:
                    keys.add(key)
                    self.ids += 1
                    rows.append((*key, Decimal(rng.randrange(10**15)).scaleb(-8), self.ids, cursor))
        self._insert(rows)

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        from airflow_provider_k2.windows import from_micros

        moments = (0, 5) if self.mode == "append" else (1, 4)
        typed = [tuple(from_micros(v) if at in moments else v for at, v in enumerate(row)) for row in rows]
        self.lab.clickhouse.execute(f"INSERT INTO {self.source} VALUES", typed)  # type: ignore[arg-type]

    # Runs -------------------------------------------------------------------------------------------------------------

    def start(self, failpoints: str = "", **options: Any) -> Worker:
        """Start a run in a process of its own."""
        self.runs += 1
        job = {
            "env": self.lane.env, "table": self.table, "failpoints": failpoints, "run_id": f"run-{self.runs}",
            "holder": f"holder-{self.runs}", "mutations": self.mutations, "engine": self.lab.engine,
            "spark_submit": self.lab.spark_submit, **options,
        }  # fmt: skip
        return self.lab.nursery.start(job)

    def run(self, failpoints: str = "", **options: Any) -> dict[str, Any]:
        """Run to the end, whatever it is."""
        return self.start(failpoints, **options).wait()

    def recover(self, seconds: float = 180, **options: Any) -> tuple[float, str]:
        """Let the next scheduled run finish, with a retry as Airflow does; seconds that it took, and an error or nothing."""
        started = time.monotonic()
        said: dict[str, Any] = {}
        for _ in range(3):
            said = self.run(wait=10, **options)
            if said["ok"]:
                return time.monotonic() - started, ""
            if time.monotonic() - started > seconds:
                break
        return time.monotonic() - started, f"the next run fails: {said['error']}: {said['message'][:300]}"

    def expire_lease(self) -> None:
        """Let the lease run out, as a jump of the ledger's clock would; a ledger that was just dropped has none."""
        if self.lab.sql("SELECT to_regclass('k2.leases')") == [(None,)]:
            return
        self.lab.sql(
            "UPDATE k2.leases SET expires_at = clock_timestamp() - interval '1 second' WHERE target = %s", [self.target]
        )

    def cold(self) -> Any:
        return self.lab.catalog.load_table(self.target)

    @contextmanager
    def held(self, failpoint: str, **options: Any) -> Iterator[tuple[Worker, Callable[[], None]]]:
        """A run that waits at a failpoint; yields its worker and what lets it go on."""
        name, _, nth = failpoint.partition("@")
        with tempfile.TemporaryDirectory(dir=self.lab.folder) as folder:
            place = Path(folder)
            worker = self.start(f"{name}@{nth or 1}=hold:{folder}", **options)
            until = time.monotonic() + 90
            while not (place / f"{name}.reached").exists() and not worker.done.is_set():
                if time.monotonic() > until:
                    break
                time.sleep(0.005)
            try:
                yield worker, (place / f"{name}.go").touch
            finally:
                (place / f"{name}.go").touch()
                if not worker.done.wait(120):
                    worker.signal(9)

    # What people and other programs do --------------------------------------------------------------------------------

    def rebuild(self) -> None:
        """``k2 watermarks rebuild``."""
        self._tools().rebuild(self._config())

    def reset(self) -> None:
        """``k2 watermarks reset``."""
        self._tools().reset(self._config())

    def _tools(self) -> Any:
        from airflow_provider_k2.hooks.iceberg import IcebergTableHook
        from airflow_provider_k2.hooks.watermark import WatermarkHook
        from airflow_provider_k2.ledger.tools import WatermarkTools

        return WatermarkTools(
            self.lab.clickhouse, IcebergTableHook(), WatermarkHook(), who="a person", reason="fault matrix"
        )

    def _config(self) -> Any:
        from airflow_provider_k2.tables.reader import parse_tables

        return parse_tables({"tables": [self.table]}, "fault matrix").tables[0]

    def append_foreign(self) -> None:
        """Append two rows, as another program does, far from every window and key."""
        import pyarrow as pa

        table = self.cold()
        self.ids += 1
        far = 4_000_000_000_000_000 + self.ids
        price = Decimal(self.ids).scaleb(-8)
        row: tuple[Any, ...] = (
            (far, "FOREIGN", price, 2**63 + self.ids, ("foreign",), far)
            if self.mode == "append"
            else ("FOREIGN", far, price, self.ids)
        )
        schema = table.schema().as_arrow()
        columns = []
        for value, column in zip(row, schema, strict=True):
            plain = (
                list(value)
                if isinstance(value, tuple)
                else Decimal(value)
                if pa.types.is_decimal(column.type)
                else value
            )
            columns.append(pa.array([plain] * 2, column.type))
        table.append(pa.Table.from_arrays(columns, schema=schema))
        self.foreign[row] += 2

    def foreign_in(self, table: Any) -> Counter[tuple[Any, ...]]:
        """Foreign rows that a rolled back table still has."""
        table.refresh()
        held = self.cold_rows(table)
        return Counter({row: count for row, count in self.foreign.items() if row in held})

    def compact(self) -> None:
        """Rewrite all rows into new files, as a foreign program does that has no better way than an overwrite."""
        table = self.cold()
        if table.metadata.current_snapshot_id is not None:
            table.overwrite(table.scan().to_arrow())

    def insert_back(self, by: int) -> int:
        """Insert rows whose cursors are that many microseconds below now; the lowest of them."""
        now = self.lab.clickhouse.now()
        day = now // DAY * DAY
        self.ids += 2
        if self.mode == "append":
            rows = [(now, "BTC/USDT", Decimal(number), self.ids + number, [], now - by + number) for number in range(2)]
        else:
            # Keys that nobody else uses.
            rows = [
                ("BACK", day + self.ids + number, Decimal(number), number, now - by + number) for number in range(2)
            ]
        self.ids += 2
        self._insert(rows)
        return now - by

    def delete_warm(self) -> int:
        """Delete a part of the warm rows, as a TTL does; how many."""
        before = sum(self.warm_rows().values())
        self.lab.clickhouse.execute(f"ALTER TABLE {self.source} DELETE WHERE id % 3 = 0 SETTINGS mutations_sync = 2")
        return before - sum(self.warm_rows().values())

    def check_rows(self) -> tuple[int, int]:
        """Rows lost and duplicated of those that the committed windows cover."""
        expected = self.expected()
        held = self.cold_rows(self.cold())
        return sum((expected - held).values()), sum((held - expected).values())

    def expected(self) -> Counter[tuple[Any, ...]]:
        """What the cold tier has to hold: the warm rows, those that the warm tier has lost since, and foreign ones."""
        return self.warm_rows() + self.gone + self.foreign

    # The check --------------------------------------------------------------------------------------------------------

    def warm_rows(self) -> Counter[tuple[Any, ...]]:
        if self.mode == "append":
            query = (
                "SELECT toUnixTimestamp64Micro(ts), toString(symbol), price, id, tags, toUnixTimestamp64Micro(arrived) "
                f"FROM {self.source}"
            )
            return Counter((*row[:4], tuple(row[4]), row[5]) for row in self.lab.clickhouse.execute(query))
        query = (
            "SELECT symbol, toUnixTimestamp64Micro(ts), argMax(volume, updated), argMax(n, updated) "
            f"FROM {self.source} GROUP BY symbol, ts"
        )
        return Counter(self.lab.clickhouse.execute(query))

    def cold_rows(self, table: Any) -> Counter[tuple[Any, ...]]:
        """Every row of every file of the current snapshot, read by pyarrow itself."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found: Counter[tuple[Any, ...]] = Counter()
        for task in table.scan().plan_files():
            if task.delete_files:
                raise AssertionError("the cold table has delete files")
            with table.io.new_input(task.file.file_path).open() as stream:
                rows = pq.read_table(stream)
            for at, column in enumerate(rows.schema):
                if pa.types.is_timestamp(column.type):
                    rows = rows.set_column(at, column.name, rows[column.name].cast(pa.int64()))
            columns = [rows[name].to_pylist() for name in table.schema().column_names if "." not in name]
            for values in zip(*columns, strict=True):
                row = tuple(tuple(v) if isinstance(v, list) else int(v) if _whole(v) else v for v in values)
                found[row] += 1
        return found

    def check(self) -> Verdict:
        """The same for every fault, after the next run: both tiers, the ledger, the lease, what lies about."""
        from airflow_provider_k2.commit.cold_state import read_cold_state, records

        table = self.cold()
        expected = self.expected()
        held = self.cold_rows(table)
        wrong = list(self._check_ledger(table, read_cold_state(table.metadata, "k2")))
        tokens = [record.token for _, record in records(table.metadata, "k2")]
        if tokens != sorted(tokens, reverse=True):
            wrong.append(f"a commit with an older fencing token follows a newer one: {tokens[::-1]}")
        orphans = self._orphans(table)
        windows = None if self.ledger_lost else self.windows()
        wrong += [f"nobody can tell whose file this is: {path}" for path in orphans if not _is_ours(path, windows)]
        return Verdict(
            sum(expected.values()),
            sum((expected - held).values()),
            sum((held - expected).values()),
            tuple(wrong),
            len(orphans),
        )

    def windows(self) -> list[tuple[Any, ...]]:
        return self.lab.sql(
            "SELECT window_id::text, lower_bound, upper_bound, state, kind, row_count FROM k2.windows WHERE target = %s "
            "ORDER BY lower_bound, upper_bound",
            [self.target],
        )

    def _check_ledger(self, table: Any, state: Any) -> Iterator[str]:
        stored = self.lab.sql("SELECT watermark, target_uuid FROM k2.watermarks WHERE target = %s", [self.target])
        if not stored:
            yield "the ledger has no watermark"
            return
        watermark = stored[0][0]
        windows = self.windows()
        committed = [window for window in windows if window[3] == "committed" and window[4] == "scheduled"]
        proven = state.watermark or 0
        if watermark < proven:
            yield f"the ledger's watermark {watermark} is behind the cold tier's {proven}"
        if any(
            window[1] >= proven and window[5] and window[2] <= watermark for window in committed if watermark > proven
        ):
            yield f"the ledger's watermark {watermark} is ahead of the cold tier's {proven} over rows"
        reached = committed[0][1] if self.ledger_lost and committed else 0
        for _, lower, upper, *_ in committed:
            # Empty windows leave no trace in the cold tier: a ledger that was lost does not have them any more.
            quiet = self.ledger_lost and not self._rows_between(reached, lower)
            if lower > reached and lower < watermark and not quiet:
                yield f"no committed window covers [{reached}, {lower})"
            reached = max(reached, upper)
        if reached < watermark:
            yield f"the committed windows end at {reached}, the watermark is {watermark}"
        if [window for window in windows if window[3] == "claimed"]:
            yield "a window is still claimed"
        leases = self.lab.sql("SELECT holder FROM k2.leases WHERE target = %s AND holder IS NOT NULL", [self.target])
        if leases:
            yield f"the lease is still held by {leases[0][0]}"

    def _rows_between(self, lower: int, upper: int) -> int:
        cursor = f"toUnixTimestamp64Micro({self.table['cursor']})"
        query = f"SELECT count() FROM {self.source} WHERE {cursor} >= {lower} AND {cursor} < {upper}"
        return int(self.lab.clickhouse.execute(query)[0][0])

    def _orphans(self, table: Any) -> list[str]:
        """Data files below the table's location that no snapshot refers to."""
        from pyarrow.fs import FileSelector, S3FileSystem

        properties = self.lab.system.seaweedfs.catalog_properties()
        store = S3FileSystem(
            endpoint_override=properties["s3.endpoint"], access_key=properties["s3.access-key-id"],
            secret_key=properties["s3.secret-access-key"], region=properties["s3.region"], scheme="http",
        )  # fmt: skip
        base = table.location().removeprefix("s3://").rstrip("/") + "/data"
        files = {
            info.path
            for info in store.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
            if info.is_file
        }
        known = {
            row["file_path"].removeprefix("s3://")
            for row in table.inspect.all_files().select(["file_path"]).to_pylist()
        }
        return sorted(files - known)


def _spark_submit() -> Path:
    from airflow_provider_k2.local import ensure_spark

    return ensure_spark(Path(os.environ.get("K2_TEST_SPARK", ROOT / ".k2" / "spark")))


def _whole(value: Any) -> bool:
    """Whether a value is a ClickHouse integer that went cold as a decimal without a scale."""
    return isinstance(value, Decimal) and value.as_tuple().exponent == 0


def _is_ours(path: str, windows: list[tuple[Any, ...]] | None) -> bool:
    """Whether a file's name holds the id of a window of the ledger, or of some window, when the ledger has been lost."""
    if windows is None:
        return _WINDOWS_FILE.search(path) is not None
    return any(window[0] in path for window in windows)
