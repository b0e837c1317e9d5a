"""One chDB data path and the sessions on it.

A chDB connection costs 0.2 ms and runs one statement at a time, so every client connection or HTTP request has its
own. Streamed results leave the engine through a named pipe (``INTO OUTFILE``): formats with a footer (Parquet, ORC,
JSON) come out whole, encoded by the engine's own threads, while memory stays flat and no temporary file is written.
Streamed data comes in the same way (``FROM INFILE``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import select
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.local.clickhouse_server import _chdb
from airflow_provider_k2.local.clickhouse_server.errors import ServerError
from airflow_provider_k2.local.clickhouse_server.statements import Insert, Query, parse_query, with_user

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PIPE_BYTES = 1 << 20
_KILL_BY_ID = re.compile(r"\bquery_id\s*=\s*'([^'\\]*)'", re.IGNORECASE)
_FCNTL_SETPIPE_SZ = 1031


def quote(text: str) -> str:
    """A ClickHouse string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    """A quoted ClickHouse identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Engine:
    """The owner of one data path. One process may own a path.

    :param path: directory of the data; created when missing.
    :param user: what ``currentUser()`` answers.
    :raises RuntimeError: when another process owns the path.
    """

    def __init__(self, path: Path, user: str = "default") -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.user = user
        self.path = path
        self._pipes = path.parent / f"{path.name}.pipes"
        shutil.rmtree(self._pipes, ignore_errors=True)
        self._pipes.mkdir(mode=0o700)
        self._numbers = itertools.count(1)
        self._threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="query")
        # Keeps the path open between queries: the engine shuts down with its last connection.
        self._root = self.connect()
        version = bytes(self._root.query("SELECT version()", "TSVRaw").bytes()).decode().strip()
        self.version = version
        self.version_numbers = tuple(int(part) for part in version.split(".")[:3])

    def connect(self) -> Any:
        """A new chDB connection to the path."""
        return _chdb.connect(str(self.path))

    def session(self, database: str = "") -> Session:
        """A new session.

        :param database: current database; empty is ``default``.
        :raises ServerError: when the database does not exist.
        """
        return Session(self, database)

    def token(self) -> str:
        """A text that marks one running query; it begins no other one's."""
        return f"k2-{os.getpid()}-{next(self._numbers)}-query"

    def pipe(self, token: str) -> Path:
        """A new named pipe for one result."""
        path = self._pipes / token
        os.mkfifo(path, 0o600)
        return path

    def submit(self, work: Any, *args: Any) -> Future[Any]:
        """Run ``work`` on a thread of its own."""
        return self._threads.submit(work, *args)

    def kill(self, token: str) -> None:
        """Cancel the running query that carries ``token``; none is no error.

        A session that has only inserted has no token yet; every query would carry an empty one.
        """
        if not token:
            return
        connection = self.connect()
        with contextlib.closing(connection):
            connection.query(
                f"KILL QUERY WHERE positionCaseInsensitive(query, {quote(token)}) > 0 "
                "AND NOT startsWith(query, 'KILL') ASYNC",
                "TSV",
            )

    def close(self) -> None:
        """Close the path: running merges end, parts are complete."""
        self._root.close()
        shutil.rmtree(self._pipes, ignore_errors=True)


class Result:
    """What one finished statement did: its output and the engine's counters (rows, bytes, seconds)."""

    def __init__(self, raw: Any) -> None:
        self.data = bytes(raw.bytes()) if raw.size() else b""
        self.result_rows = int(raw.rows_read())
        self.result_bytes = int(raw.bytes_read())
        self.read_rows = int(raw.storage_rows_read())
        self.read_bytes = int(raw.storage_bytes_read())
        self.written_rows = int(raw.rows_written())
        self.written_bytes = int(raw.bytes_written())
        self.elapsed = float(raw.elapsed())


class Session:
    """One chDB connection with its current database and settings. Not to be shared between threads.

    :param engine: the owner of the path.
    :param database: current database; empty is ``default``.
    """

    def __init__(self, engine: Engine, database: str = "") -> None:
        self._engine = engine
        self._connection = engine.connect()
        self._statements: list[str] = []
        self._temporary: dict[str, str] = {}
        self.last_token = ""
        if database:
            try:
                self._run(f"USE {identifier(database)}")
            except ServerError:
                self.close()
                raise

    def _run(self, sql: str, output: str = "TSV", params: Mapping[str, str] | None = None) -> Result:
        sql = with_user(sql, quote(self._engine.user))
        try:
            return Result(self._connection.query(sql, output, params=dict(params or {})))
        except RuntimeError as error:
            raise ServerError.from_engine(error) from None

    def use_settings(self, settings: Mapping[str, str]) -> None:
        """Set settings for the next statement only; :meth:`reset_settings` takes them back.

        :raises ServerError: code 115 for an unknown setting, others for bad values.
        """
        if settings:
            self._temporary = dict(settings)
            self._run("SET " + ", ".join(f"{identifier(name)} = {quote(value)}" for name, value in settings.items()))

    def reset_settings(self) -> None:
        """Undo :meth:`use_settings`, and repeat what the client itself has SET in this session."""
        if self._temporary:
            names, self._temporary = self._temporary, {}
            self._run("SET " + ", ".join(f"{identifier(name)} = DEFAULT" for name in names))
            for statement in self._statements:
                self._run(statement)

    def sibling(self) -> Session:
        """A new session with this one's database and settings, to ask something while this one is busy."""
        database = self._run("SELECT currentDatabase()", "TSVRaw").data.decode().strip()
        sibling = Session(self._engine, database)
        for statement in self._statements:
            sibling._run(statement)
        sibling.use_settings(self._temporary)
        return sibling

    def reads_only(self, sql: str) -> bool:
        """Whether the statement is a query with a result (SELECT, SHOW, DESCRIBE, EXISTS, EXPLAIN)."""
        return _chdb.reads_only(self._connection, sql)

    def execute(
        self, sql: str, output: str = "TSV", params: Mapping[str, str] | None = None, query_id: str = ""
    ) -> Result:
        """Run a statement and keep its whole output: for DDL, control statements and INSERT ... SELECT.

        :param output: format of the output.
        :param params: values of ``{name:Type}`` parameters.
        :param query_id: the client's id, by which KILL QUERY finds the statement.
        """
        word = sql.lstrip()[:4].upper()
        if word == "KILL":
            sql = _KILL_BY_ID.sub(lambda found: f"positionCaseInsensitive(query, {quote(_mark(found[1]))}) > 0", sql)
        elif not word.startswith("INSE"):
            sql = self._marked(sql, query_id)
        result = self._run(sql, output, params)
        if word in ("SET ", "SET\n", "SET\t"):
            self._statements.append(sql)
        return result

    def describe(self, sql: str, params: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
        """Names and types of a statement's columns: SELECTs are not run for it, SHOW and the like are.

        :raises ServerError: a statement that the engine refuses.
        """
        if parse_query(sql).is_select:
            data = self._run(f"DESCRIBE ({sql}\n)", "JSONCompactColumns", params).data
            names, types = json.loads(data)[:2]
        else:
            data = self._run(sql, "JSONCompactEachRowWithNamesAndTypes", params).data
            names, types = (json.loads(line) for line in data.splitlines()[:2])
        return list(zip(names, types, strict=True))

    def blocks(
        self, sql: str, query_id: str = "", params: Mapping[str, str] | None = None
    ) -> Iterator[tuple[bytes, int]]:
        """Stream a query's result as blocks in Native format, each with its number of rows.

        :raises ServerError: whatever the engine reports, also in the middle of the result.
        """
        sql = self._marked(with_user(sql, quote(self._engine.user)), query_id)
        try:
            stream = self._connection.send_query(sql, "Native", params=dict(params or {}))
        except RuntimeError as error:
            raise ServerError.from_engine(error) from None
        finished = False
        try:
            while True:
                try:
                    chunk = self._connection.streaming_fetch_result(stream)
                except RuntimeError as error:
                    finished = True
                    raise ServerError.from_engine(error) from None
                if chunk is None or not chunk.rows_read():
                    finished = True
                    return
                yield bytes(chunk.bytes()), int(chunk.rows_read())
        finally:
            if not finished:
                self._connection.streaming_cancel_query(stream)

    @contextlib.contextmanager
    def export(
        self,
        query: Query,
        output: str,
        compression: str = "",
        params: Mapping[str, str] | None = None,
        query_id: str = "",
    ) -> Iterator[Export]:
        """Run a query whose output streams through a named pipe.

        :param query: the parsed statement.
        :param output: output format.
        :param compression: compression by the engine: ``gzip``, ``zstd``, ``lz4``, ``br``, ``deflate``, or empty.
        """
        self.last_token = token = self._engine.token()
        pipe = self._engine.pipe(token)
        clause = f" COMPRESSION {quote(compression)} LEVEL 1" if compression else ""
        sql = (
            f"{query.body}\nINTO OUTFILE {quote(str(pipe))} TRUNCATE{clause} FORMAT {output} {query.settings}"
            f"\n/* {_mark(query_id)} */"
        )
        try:
            running = Export(self._engine, token, pipe)
            try:
                running.start(self._engine.submit(self._run, sql, "TSV", params))
                yield running
            finally:
                running.close()
        finally:
            pipe.unlink(missing_ok=True)

    @contextlib.contextmanager
    def insert(
        self, insert: Insert, data_format: str, params: Mapping[str, str] | None = None, query_id: str = ""
    ) -> Iterator[InsertStream]:
        """Insert data that arrives in pieces; leaving the block without :meth:`InsertStream.finish` cancels it.

        The data reaches the engine through a named pipe (``FROM INFILE``). chDB's own streaming insert would be
        shorter, but drops errors that come after parsing: a violated constraint, a failing materialised view.

        :param insert: the parsed statement.
        :param data_format: the data's format.
        """
        self.last_token = token = self._engine.token()
        pipe = self._engine.pipe(token)
        sql = f"{insert.head}\nFROM INFILE {quote(str(pipe))} {insert.settings} FORMAT {data_format}"
        sql += f"\n/* {_mark(query_id)} */"
        stream = InsertStream(self._engine, token, pipe)
        try:
            stream.start(self._engine.submit(self._run, sql, "TSV", params))
            yield stream
        finally:
            stream.cancel()
            pipe.unlink(missing_ok=True)

    def _marked(self, sql: str, query_id: str) -> str:
        self.last_token = self._engine.token()
        return f"{sql}\n/* {self.last_token} {_mark(query_id)} */"

    def close(self) -> None:
        """End the session; a statement that still runs is cancelled."""
        self._connection.close()


def _mark(query_id: str) -> str:
    """How a client's query id is written into the text of its query."""
    return f"query_id:{query_id.replace('*/', '')}:" if query_id else ""


class _Wake:
    """A pipe that wakes a poll when a query's thread ends.

    A future has its result before it runs its callbacks: the reader may have closed the pipe by then, and the number of
    its file may belong to a file of the engine. So the end is written under a lock, and never after :meth:`close`.
    """

    def __init__(self) -> None:
        self.read, self._write = os.pipe()
        self._lock = threading.Lock()
        self._is_open = True

    def set(self) -> None:
        """Wake whoever polls; nothing when nobody does any more."""
        with self._lock:
            if self._is_open:
                os.write(self._write, b"x")

    def close(self) -> None:
        """Close the pipe, once."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self.read)
                os.close(self._write)


class Export:
    """The running end of :meth:`Session.export`: read it until it is empty, then ask for the result."""

    def __init__(self, engine: Engine, token: str, pipe: Path) -> None:
        self._engine = engine
        self._token = token
        self._fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._wake = _Wake()
        self._running: Future[Result] | None = None
        self._writer_seen = False
        with contextlib.suppress(OSError):  # the limit of an ordinary user may be lower
            fcntl.fcntl(self._fd, _FCNTL_SETPIPE_SZ, PIPE_BYTES)

    def start(self, running: Future[Result]) -> None:
        """Watch the query's thread."""
        self._running = running
        running.add_done_callback(lambda _: self._wake.set())

    def read(self) -> bytes:
        """The next piece of output, empty at its end."""
        assert self._running is not None
        while True:
            done = self._running.done()
            try:
                data = os.read(self._fd, PIPE_BYTES)
            except BlockingIOError:
                self._writer_seen = True
                self._wait(self._fd)
                continue
            if data:
                self._writer_seen = True
                return data
            if done:
                return b""
            # Empty: the writer has not come yet, or it has gone and the query is about to end.
            self._wait(*([] if self._writer_seen else [self._fd]))

    def _wait(self, *files: int) -> None:
        """Sleep until the query ends, or one of the files has something."""
        poll = select.poll()
        poll.register(self._wake.read, select.POLLIN)
        for file in files:
            poll.register(file, select.POLLIN)
        if any(event & select.POLLHUP for file, event in poll.poll() if file == self._fd):
            self._writer_seen = True

    def done(self) -> bool:
        """Whether the engine has finished the query."""
        assert self._running is not None
        return self._running.done()

    def result(self) -> Result:
        """The counters, once the output has been read.

        :raises ServerError: the engine's error.
        """
        assert self._running is not None
        return self._running.result()

    def close(self) -> None:
        """Stop reading: a query that still writes is cancelled, and waited for."""
        os.close(self._fd)
        if self._running is not None:
            if not self._running.done():
                self._engine.kill(self._token)
            self._running.exception()
        self._wake.close()


class InsertStream:
    """An open INSERT that takes encoded data: the writing end of its pipe."""

    def __init__(self, engine: Engine, token: str, pipe: Path) -> None:
        self._engine = engine
        self._token = token
        self._pipe = pipe
        self._fd: int | None = None
        self._wake = _Wake()
        self._running: Future[Result] | None = None

    def start(self, running: Future[Result]) -> None:
        """Watch the query's thread."""
        self._running = running
        running.add_done_callback(lambda _: self._wake.set())

    def append(self, data: bytes) -> None:
        """Hand over a piece of the data, cut anywhere.

        :raises ServerError: data that the engine cannot parse, or cannot insert; it may come with a later piece.
        """
        rest = memoryview(data)
        while rest and self._open():
            assert self._fd is not None
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                self._wait(self._fd, None)
            except BrokenPipeError:
                break
        if rest:  # the engine has ended the query before its data
            self._result()

    def finish(self) -> Result:
        """End the data and commit.

        :raises ServerError: the engine's error; blocks that it has committed before stay, as in any ClickHouse.
        """
        if self._open():
            self._close()
        return self._result()

    def cancel(self) -> None:
        """Give the INSERT up: what has arrived of an unfinished block is not inserted. Nothing after its end."""
        assert self._running is not None
        while not self._running.done():
            # Killed first: the pipe's end alone would look like the end of the data.
            self._engine.kill(self._token)
            self._open(patience=0.05)
            self._close()
            self._wait(None, 50)
        self._close()
        self._wake.close()

    def _result(self) -> Result:
        assert self._running is not None
        return self._running.result()

    def _open(self, patience: float = 3600.0) -> bool:
        """Whether the engine reads; waits (seconds) for it to begin."""
        assert self._running is not None
        deadline = time.monotonic() + patience
        while self._fd is None and not self._running.done() and time.monotonic() < deadline:
            try:
                self._fd = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
                self._wait(None, 1)
                continue
            with contextlib.suppress(OSError):  # the limit of an ordinary user may be lower
                fcntl.fcntl(self._fd, _FCNTL_SETPIPE_SZ, PIPE_BYTES)
        return self._fd is not None

    def _wait(self, fd: int | None, milliseconds: int | None) -> None:
        """Sleep until the query ends, or the pipe takes more, or the time is over."""
        poll = select.poll()
        poll.register(self._wake.read, select.POLLIN)
        if fd is not None:
            poll.register(fd, select.POLLOUT)
        poll.poll(milliseconds)

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
