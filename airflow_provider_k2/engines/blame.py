"""Whose fault it is that a file cannot be written: ClickHouse's, which sent it, or the storage's.

A file that cannot be read back does not say, because both may have changed it. So what is sent is summed on its way,
and compared with what is in the storage: if the bytes are the same, ClickHouse sent them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from airflow_provider_k2.commit.store import UNKNOWN, explain_store, in_one_line
from airflow_provider_k2.engines.parquet_footer import MalformedFileError
from airflow_provider_k2.exceptions import CLICKHOUSE, STORE, ServiceError

if TYPE_CHECKING:
    from pyiceberg.io import FileIO, OutputStream

    from airflow_provider_k2.engines.files import FileTarget

_PIECE = 1 << 20


class Summed:
    """A file that is being written, and the sum of its bytes.

    :param sink: where they go.
    """

    def __init__(self, sink: OutputStream) -> None:
        self._sink, self._sum = sink, xxhash.xxh3_128()

    def write(self, data: bytes) -> int:
        """Pass bytes on."""
        self._sum.update(data)
        return self._sink.write(data)

    def digest(self) -> bytes:
        """The sum so far."""
        return self._sum.digest()


def blame(target: FileTarget, path: str, io: FileIO, sent: bytes | None, error: Exception) -> ServiceError:
    """Say which service has failed.

    :param target: the window's files.
    :param path: location of the file.
    :param io: the cold table's storage.
    :param sent: sum of what was sent to it; None when that did not come to its end.
    :param error: what was raised.
    """
    what, fix = explain_store(error)
    if isinstance(error, MalformedFileError) or (what == UNKNOWN and sent is not None and _lies_there(io, path, sent)):
        service = CLICKHOUSE
        fix = "check ClickHouse's log and what lies between (a proxy, a load balancer), and run it again"
        said = (
            f"ClickHouse's answer for window {target.window} is not a complete Parquet file with the cold table's "
            f"columns: {in_one_line(error)}"
        )
    else:
        service = STORE
        said = (
            f"the cold table's storage {what} while window {target.window} is written: {type(error).__name__}: "
            f"{in_one_line(error)}"
        )
    return ServiceError(
        said,
        service=service,
        table=target.table,
        window=target.window,
        untouched="Nothing was committed and the watermark stands",
        fix=fix,
    )


def _lies_there(io: FileIO, path: str, sent: bytes) -> bool:
    """Whether the storage gives back what it was sent."""
    found = xxhash.xxh3_128()
    try:
        with io.new_input(path).open() as stream:
            while piece := stream.read(_PIECE):
                found.update(piece)
    except Exception:  # noqa: BLE001 - whatever it is, the storage does not give the file back
        return False
    return found.digest() == sent
