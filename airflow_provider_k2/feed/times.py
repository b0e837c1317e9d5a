"""Times as people write them on the command line, and as microseconds since 1970 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exact."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_time(text: str) -> int:
    """Read a time: ISO 8601 (UTC when it names no offset), seconds since 1970, or ``now``.

    :param text: as written on the command line.
    :returns: microseconds since 1970, UTC.
    :raises ValueError: when it cannot be read.
    """
    if text == "now":
        return to_micros(datetime.now(UTC))
    if text.isascii() and text.isdigit():
        return int(text) * 1_000_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time; write it like 2026-01-31T12:00:00Z (UTC), as seconds since 1970, or `now`"
        ) from None
    return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
