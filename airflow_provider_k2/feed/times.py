"""Times as people write them on the command line, and as microseconds since 1970 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_k2.windows import DATETIMES, seems_time, to_micros

TIMES = range(DATETIMES.stop)
"""The times of trades, from 1970 to 9999: what every message form can write."""


def parse_time(text: str) -> int:
    """Read a time: ISO 8601 (UTC when it names no offset), microseconds since 1970, or ``now``.

    Bare digits mean the same as in a run conf and in ``k2 verify``: microseconds.

    :param text: as written on the command line.
    :returns: microseconds since 1970, UTC.
    :raises ValueError: when it cannot be read, is not of the years 1970 to 9999, or has too few digits for
        microseconds.
    """
    if text == "now":
        return to_micros(datetime.now(UTC))
    if text.isascii() and text.isdigit():
        # Smaller numbers are meant as seconds, milliseconds, or a date without dashes.
        if not int(text) or not seems_time(int(text)):
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
