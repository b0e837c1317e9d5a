"""What is in a table's storage: a listing with the store's own times, and the store's clock."""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from pyiceberg.io.pyarrow import PyArrowFileIO

from airflow_provider_k2.commit.store import describe_store, explain_store
from airflow_provider_k2.exceptions import STORE, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pyiceberg.table import Table

_S3 = {"s3a": "s3", "s3n": "s3"}


@dataclass(frozen=True)
class Stored:
    """A file in the storage.

    :param path: its location, as Arrow has it: without the scheme.
    :param size: bytes.
    :param at: when it was written, epoch seconds by the store's clock.
    """

    path: str
    size: int
    at: float


class Storage:
    """The storage below a table's location.

    By pyarrow, whatever pyiceberg reads the table with: its listing raises where a page of it fails.

    :param table: the table, loaded.
    """

    def __init__(self, table: Table) -> None:
        self.properties = dict(table.io.properties)
        self.io = PyArrowFileIO(self.properties)
        self.scheme, self.netloc, self.root = self._parse(table.location())
        self.fs: Any = self.io.fs_by_scheme(self.scheme, self.netloc)
        self.root = self.root.rstrip("/")

    def _parse(self, location: str) -> tuple[str, str, str]:
        scheme, netloc, path = PyArrowFileIO.parse_location(location, self.properties)
        return _S3.get(scheme, scheme), netloc, path

    def key(self, location: str) -> str | None:
        """A location as :attr:`Stored.path` has it; None if it is not below the table's location."""
        scheme, netloc, path = self._parse(location)
        if (scheme, netloc) != (self.scheme, self.netloc) or not path.startswith(f"{self.root}/"):
            return None
        return path

    def listing(self) -> dict[str, Stored]:
        """List every file below the table's location.

        :raises ServiceError: when the store breaks off, or gives no time for a file.
        """
        import pyarrow.fs as pafs

        with _asked():
            found = self.fs.get_file_info(pafs.FileSelector(self.root, recursive=True, allow_not_found=False))
            return {
                one.path: Stored(one.path, int(one.size), _seconds(one.mtime, one.path))
                for one in found
                if one.type == pafs.FileType.File
            }

    def now(self) -> float:
        """The store's clock, epoch seconds: the time that it gives to a file that is written now.

        The file is removed again.

        :raises ServiceError: when the store does not take it.
        """
        # Named as a data file: table buckets take no others.
        path = f"{self.root}/data/k2-clock-{uuid.uuid4().hex}.parquet"
        try:
            with _asked():
                with self.fs.open_output_stream(path) as stream:
                    stream.write(b"k2")
                return _seconds(self.fs.get_file_info(path).mtime, path)
        finally:
            with suppress(OSError):
                self.fs.delete_file(path)

    def look(self, path: str) -> Stored | None:
        """One file; None if it is not there."""
        import pyarrow.fs as pafs

        with _asked():
            found = self.fs.get_file_info(path)
        there = found.type == pafs.FileType.File
        return Stored(path, int(found.size), _seconds(found.mtime, path)) if there else None

    def overlaps(self, location: str) -> bool:
        """Whether a location is in, around or at this one."""
        scheme, netloc, path = self._parse(location)
        other, mine = f"{path.rstrip('/')}/", f"{self.root}/"
        return (scheme, netloc) == (self.scheme, self.netloc) and (other.startswith(mine) or mine.startswith(other))

    def read(self, path: str) -> bytes:
        """The bytes of a small file."""
        with self.fs.open_input_file(path) as stream:
            return bytes(stream.read())

    def delete(self, path: str) -> None:
        """Remove a file.

        :raises ServiceError: when the store does not allow it.
        """
        with _asked():
            self.fs.delete_file(path)


@contextmanager
def _asked() -> Iterator[None]:
    """Say in our words when the store fails."""
    try:
        yield
    except OSError as error:
        raise ServiceError(
            describe_store(error),
            service=STORE,
            step="maintain",
            untouched="Nothing was removed that anything needs",
            fix=explain_store(error)[1],
        ) from error


def _seconds(at: datetime | None, path: str) -> float:
    if at is None:
        raise OSError(f"the store does not say when {path} was written")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
