"""Times as people write them on the command line, and as microseconds since 1970 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = range(0, 253_402_300_800_000_000)
"""The times of trades, from 1970 to 9999: what every message form can write."""

# Smaller numbers would be times before March 1973: they are meant as seconds, milliseconds, or a date without dashes.
_MICROS = range(10**14, TIMES.stop)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exact."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_time(text: str) -> int:
    """Read a time: ISO 8601 (UTC when it names no offset), microseconds since 1970, or ``now``.

    Bare digits mean the same as in a run conf and in ``k2 verify``: microseconds.

    :param text: as written on the command line.
    :returns: microseconds since 1970, UTC.
    :raises ValueError: when it cannot be read, is not of the years 1970 to 9999, or has too few digits for microseconds.
    """
    if text == "now":
        return to_micros(datetime.now(UTC))
    if text.isascii() and text.isdigit():
        if int(text) not in _MICROS:
            raise ValueError(
                f"{text} is not a time in microseconds since 1970 (15 to 18 digits, up to the year 9999); "
                "write it like 2026-01-31T12:00:00Z (UTC)"
            )
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time; write it like 2026-01-31T12:00:00Z (UTC), as microseconds since 1970, or `now`"
        ) from None
    micros = to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if micros not in TIMES:
        raise ValueError(f"{text} is not a time of the years 1970 to 9999; write one like 2026-01-31T12:00:00Z (UTC)")
    return micros
