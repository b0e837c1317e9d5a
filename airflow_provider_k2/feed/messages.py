"""Recorded raw messages: read from files, their times found and shifted. Pure but for reading the files.

Times are replaced in the text itself, everything else stays byte for byte what the exchange wrote: a message that went
through a JSON library would not be the raw message any more (floats, spaces, order of keys). What has no time of a
known form, a malformed message say, passes unchanged.
"""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.kafka.topics import LIVE_EXCHANGES
from airflow_provider_k2.windows import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXCHANGES = LIVE_EXCHANGES

LONGEST_LINE = 4 * 2**20
"""Maximum bytes of a line: a thousand trades in one message, which is the most that is accepted, are a tenth of it."""

_GZIP = b"\x1f\x8b"
# Milliseconds, or microseconds (`timeUnit=MICROSECOND`): 13 and 16 digits from 2001 to 2286, so the length tells which.
_BINANCE_TIME = re.compile(r'("(?P<name>[TE])"\s*:\s*)(?P<time>\d{16}|\d{12,14})(?!\d)')
_MICROS_DIGITS = 16
# The third of [price, volume, time, side, ...], and the predecessor's flattened `timestamp`, seconds with a fraction.
_SECONDS = re.compile(
    r'(?P<time>\b\d{9,11}\.\d{1,6})(?="?\s*,\s*"[bs]")|(?<="timestamp":)(?P<flat>\s*"?)(?P<flat_time>\d{9,11}\.\d{1,6})\b'
)
_RFC3339 = re.compile(r'(?<="timestamp":)(?P<lead>\s*")(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z(?=")')
# A trade's `time`, and the envelope's `timestamp`, which is the time of sending.
_COINBASE_TIME = re.compile(
    r'(?P<lead>"(?P<name>time|timestamp)"\s*:\s*")(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*Z(?=")'
)
_FLAT_INGESTION = re.compile(r'(?<="ingestion_timestamp":)(?P<lead>\s*"?)(?P<time>\d{15,17})(?!\d)')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Stream(Protocol):
    def readline(self, size: int, /) -> bytes: ...


class RecordingError(FeedError):
    """A recording cannot be read to its end.

    :param what: the file, and where its readable lines end.
    :param fix: how to get a complete file.
    :param taken: how many messages the warm tier has taken before.
    """

    def __init__(self, what: str, fix: str, taken: int = 0) -> None:
        sent = f"the first {taken:,} messages were sent, the rest was not" if taken else "nothing was sent"
        rest = ", without the messages that were sent" if taken else ""
        super().__init__(f"{what}; {sent}. {fix}, then send it again{rest}")
        self._what, self._fix = what, fix

    def after(self, taken: int) -> RecordingError:
        """The same error for a feed that has sent messages before: only the feed knows how many."""
        return RecordingError(self._what, self._fix, taken)


def split_names(text: str) -> list[str]:
    """Read a list of files and folders: one path as it is, blanks and all, if it exists, else several between blanks.

    :param text: as it stands in an environment variable.
    """
    return [text] if text and Path(text).exists() else text.split()


def recordings_in(names: Iterable[str]) -> list[str]:
    """Put the recordings of a folder (``*.jsonl``, ``*.jsonl.gz``, in the order of their names) in its place.

    :param names: files and folders.
    :returns: files.
    :raises FeedError: when one does not exist, or a folder holds no recording.
    """
    found: list[str] = []
    for name in names:
        path = Path(name)
        inside = sorted(str(file) for file in path.iterdir() if _is_recording(file)) if path.is_dir() else [name]
        if not inside or not all(Path(file).is_file() for file in inside):
            what = "holds no recording (*.jsonl, *.jsonl.gz)" if path.is_dir() else "is no file"
            raise FeedError(f"{name!r} {what}; nothing was sent. Name a recording, or a folder of them")
        found += inside
    return found


def _is_recording(file: Path) -> bool:
    return file.is_file() and file.name.endswith((".jsonl", ".jsonl.gz"))


def read_messages(paths: Iterable[Path | str]) -> Iterator[str]:
    """Yield the messages of files, one per line, plain or gzip; empty lines are left out.

    Memory does not grow with what is in them: a line without an end is not read to the end.

    :param paths: files, in this order; ``-`` is the standard input.
    :raises OSError: when a file cannot be read.
    :raises RecordingError: when a file's gzip is cut off, as that of a recording still being written, or damaged, or
        when a line is longer than ``LONGEST_LINE``.
    """
    for path in paths:
        if str(path) == "-":
            yield from _messages("standard input", sys.stdin.buffer)
            continue
        with open(path, "rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
            yield from _messages(path, stream)


def _messages(path: Path | str, stream: _Stream) -> Iterator[str]:
    count = 0
    try:
        while line := stream.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise RecordingError(
                    f"{path}: line {count + 1:,} is longer than {LONGEST_LINE // 2**20} MiB, which no message is",
                    "Remove the line, or check that the file is a recording with one message per line",
                )
            count += 1
            # Bytes that are not UTF-8 survive: the warm tier is to see (and dead-letter) what was recorded.
            text = line.strip().decode("utf-8", "surrogateescape")
            if text:
                yield text
    # The command line would take an EOFError for the user's Ctrl-D, and say `Aborted.` only.
    except EOFError as error:
        raise RecordingError(
            f"{path}: its gzip is cut off after {count:,} lines",
            "Wait until its recorder has closed it, or copy it again",
        ) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise RecordingError(
            f"{path}: its gzip is damaged after {count:,} lines ({error})", "Copy or record it again"
        ) from error


def trade_times(message: str, exchange: str) -> list[int]:
    """Find the times of the trades in a message.

    :param message: raw message of any form.
    :param exchange: ``binance``, ``kraken`` or ``coinbase``.
    :returns: microseconds since 1970, UTC; empty when there is none.
    """
    if exchange == "binance":
        found = (match["time"] for match in _BINANCE_TIME.finditer(message) if match["name"] == "T")
        return [int(time) * _micros_in_unit(time) for time in found]
    if exchange == "coinbase":
        matches = _COINBASE_TIME.finditer(message)
        return [_rfc3339_to_micros(match["time"]) for match in matches if match["name"] == "time"]
    seconds = [_seconds_to_micros(match["time"] or match["flat_time"]) for match in _SECONDS.finditer(message)]
    return seconds + [_rfc3339_to_micros(match["time"]) for match in _RFC3339.finditer(message)]


def shift_message(message: str, exchange: str, delta: int) -> str:
    """Move every time of a message.

    :param message: raw message of any form.
    :param exchange: ``binance``, ``kraken`` or ``coinbase``.
    :param delta: microseconds to add; a multiple of 1,000, because most of Binance's times are milliseconds.
    :returns: the message, unchanged but for its times.
    """
    if exchange == "binance":
        return _BINANCE_TIME.sub(
            lambda match: f"{match[1]}{int(match['time']) + delta // _micros_in_unit(match['time'])}", message
        )
    if exchange == "coinbase":
        return _COINBASE_TIME.sub(lambda match: match["lead"] + _shift_rfc3339(match["time"], delta), message)
    message = _SECONDS.sub(lambda match: _shift_seconds(match, delta), message)
    message = _RFC3339.sub(lambda match: match["lead"] + _shift_rfc3339(match["time"], delta), message)
    return _FLAT_INGESTION.sub(lambda match: f"{match['lead']}{int(match['time']) + delta}", message)


def shift_to(messages: Iterable[str], exchange: str, delta: int) -> Iterator[str]:
    """Move the times of many messages, see :func:`shift_message`."""
    return (shift_message(message, exchange, delta) for message in messages)


def find_shift(messages: Iterable[str], exchange: str, last: int) -> int:
    """Find what to add to all times so that the last trade lands at a given time.

    :param messages: all messages that are to be shifted alike.
    :param exchange: ``binance``, ``kraken`` or ``coinbase``.
    :param last: where the last trade is to land, microseconds since 1970, UTC.
    :returns: microseconds, a multiple of 1,000: the last trade lands on ``last``, or less than a millisecond before.
    :raises ValueError: when no message has a time.
    """
    latest = max((time for message in messages for time in trade_times(message, exchange)), default=None)
    if latest is None:
        raise ValueError(f"no {exchange} trade with a time was found, nothing was shifted; is --exchange right?")
    return (last - latest) // 1000 * 1000


def _micros_in_unit(time: str) -> int:
    """Microseconds that the last digit of one of Binance's times stands for."""
    return 1 if len(time) == _MICROS_DIGITS else 1000


def _seconds_to_micros(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 1_000_000 + int(fraction.ljust(6, "0"))


def _shift_seconds(match: re.Match[str], delta: int) -> str:
    text = match["time"] or match["flat_time"]
    whole, fraction = divmod(_seconds_to_micros(text) + delta, 1_000_000)
    return f"{match['flat'] or ''}{whole}.{fraction:06d}"


def _rfc3339_to_micros(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def _shift_rfc3339(text: str, delta: int) -> str:
    moment = _EPOCH + timedelta(microseconds=_rfc3339_to_micros(text) + delta)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
