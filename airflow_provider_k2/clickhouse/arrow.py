"""Answers that come as a stream of Arrow messages: complete, or an error. A stream may be cut without a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, TypeVar

from airflow_provider_k2.exceptions import CLICKHOUSE, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

T = TypeVar("T")

END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How a stream of Arrow messages ends. Arrow itself also accepts the end of a connection between two messages."""

TRIES = 3
"""How often an answer is read if its number of rows differs from what another query counts."""


class _Tail:
    """A stream that remembers its last bytes."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.last = stream, b""

    def read(self, size: int = -1) -> bytes:
        piece = self.stream.read() if size < 0 else self.stream.read(size)
        self.last = (self.last + piece)[-len(END) :]
        return piece

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave it open: the one who opened it closes it."""


def read_arrow(stream: BinaryIO, query: str) -> pa.Table:
    """Read a whole answer in the format ArrowStream.

    :param query: what was asked, for the message.
    :raises ServiceError: when it is not complete: no answer at all, no end of stream, something after it, or no Arrow.
    """
    import pyarrow as pa

    tail = _Tail(stream)
    try:
        with pa.ipc.open_stream(tail) as reader:
            answer = reader.read_all()
        rest = tail.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _short(query, str(error).partition("\n")[0][:300].rstrip(".")) from error
    if rest:
        raise _short(query, f"after its end came {rest[:200]!r}")
    if tail.last != END:
        raise _short(query, f"it ends after {answer.num_rows:,} rows without its end of stream")
    return answer


def _short(query: str, what: str) -> ServiceError:
    return ServiceError(
        f"ClickHouse's answer over HTTP is not whole: {what}",
        service=CLICKHOUSE,
        untouched="Nothing was changed and no row was dropped",
        fix=(
            "check ClickHouse's log and what lies between (a proxy, a load balancer), then run it again. The "
            f"query was: {query[:200]}"
        ),
    )


def read_counted(count: Callable[[], int], read: Callable[[], T], rows: Callable[[T], int], what: str) -> T:
    """Read an answer whose rows another query counts in another way.

    Rows that come or go in the meantime are not an error, if their number lies between the counts before and after.

    :param count: counts the rows.
    :param read: reads the answer.
    :param rows: how many rows an answer holds.
    :param what: what it is about, for the message.
    :raises ServiceError: when the answer holds fewer or more rows, again and again.
    """
    for _ in range(TRIES):
        before = count()
        answer = read()
        held = rows(answer)
        if held == before:
            return answer
        after = count()
        if min(before, after) <= held <= max(before, after):
            return answer
    raise ServiceError(
        f"{what}: ClickHouse counts {after:,} rows, but its answer holds {held:,}: something cuts it, or adds to it",
        service=CLICKHOUSE,
        untouched="Nothing was changed and no row was dropped",
        fix=("look at the settings profile of the user, and at what lies between (a proxy, a load balancer)"),
    )
