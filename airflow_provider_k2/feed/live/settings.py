"""Choices of a feed handler that do not depend on the exchange."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How patient a handler is; the defaults suit an exchange on the internet.

    :param buffer_bytes: memory that messages may take until the broker has them.
    :param stall_seconds: how long reading may stand still because the buffer is full; then the connection is closed.
    :param status_seconds: time between two status lines.
    :param open_seconds: how long connecting may take.
    :param ping_seconds: time between two pings of the connection, and how long an answer may take.
    :param backoff_first: limit of the first wait after a failure, seconds; it doubles each time.
    :param backoff_longest: limit of any wait, seconds.
    :param renew_before: how long before the exchange closes a connection a new one is made, seconds.
    :param flush_seconds: how long a stop waits for the broker.
    :param largest_frame: maximum bytes of a message; a larger one costs the connection.
    """

    buffer_bytes: int = 64 * 2**20
    stall_seconds: float = 10.0
    status_seconds: float = 10.0
    open_seconds: float = 10.0
    ping_seconds: float = 20.0
    backoff_first: float = 1.0
    backoff_longest: float = 60.0
    renew_before: float = 600.0
    flush_seconds: float = 30.0
    largest_frame: int = 4 * 2**20
