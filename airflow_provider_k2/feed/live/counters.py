"""What a feed handler has seen and done, as plain numbers: for its status line, its file and monitoring."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Counters:
    """Counters of one handler; all but those marked as *now* only grow.

    :param exchange: the exchange.
    :param symbols: number of symbols that were asked for.
    :param connections: connections that are open (*now*).
    :param connections_wanted: connections that the symbols need.
    :param connected: connections made since the start.
    :param interruptions: connections that ended without being replaced before.
    :param renewals: connections that were replaced in time, before the exchange's limit or on its notice.
    :param failures: attempts to connect that failed, and connections that the exchange refused to serve.
    :param frames: messages received.
    :param bytes: their size.
    :param trades: live trades received, doubled ones included.
    :param doubled: trades that were received again and not sent again.
    :param late: trades that came after one with a higher id.
    :param missing: trade ids that are missing so far between those received (*now*: a late trade takes its own away).
    :param restarts: times that a symbol's ids began anew.
    :param snapshots: trades of the time before a subscription; they are not sent.
    :param malformed: messages of no known form; they are sent, and become dead letters.
    :param sent: messages that the broker has acknowledged.
    :param rejected: messages that the broker or its client will never take (too large); they are lost, and logged.
    :param unsent: messages that were received and not acknowledged when the handler stopped.
    :param buffered: messages on their way to the broker (*now*).
    :param buffer_bytes: the memory that they take (*now*).
    :param buffer_peak: the most that they ever took, bytes.
    :param stalls: times that reading stopped because the buffer was full.
    :param stall_cuts: times that a connection was closed because the buffer stayed full.
    :param broker_outages: times that no broker could be reached.
    :param clock_jumps: times that the machine's clock jumped.
    :param started: seconds since 1970.
    :param updated: seconds since 1970, when this was written.
    """

    exchange: str
    symbols: int = 0
    connections: int = 0
    connections_wanted: int = 0
    connected: int = 0
    interruptions: int = 0
    renewals: int = 0
    failures: int = 0
    frames: int = 0
    bytes: int = 0
    trades: int = 0
    doubled: int = 0
    late: int = 0
    missing: int = 0
    restarts: int = 0
    snapshots: int = 0
    malformed: int = 0
    sent: int = 0
    rejected: int = 0
    unsent: int = 0
    buffered: int = 0
    buffer_bytes: int = 0
    buffer_peak: int = 0
    stalls: int = 0
    stall_cuts: int = 0
    broker_outages: int = 0
    clock_jumps: int = 0
    started: float = field(default_factory=time.time)
    updated: float = 0.0

    def as_dict(self) -> dict[str, str | int | float]:
        """All of them, by name."""
        return asdict(self)

    def line(self, rate: float) -> str:
        """The status line.

        :param rate: trades per second since the last one.
        """
        parts = [
            f"{self.exchange}: {self.connections} of {self.connections_wanted} connections",
            f"{rate:,.0f} trades/s",
            f"{self.trades:,} trades",
            f"{self.sent:,} messages sent",
            f"{self.missing:,} missing",
            f"buffer {self.buffer_bytes / 2**20:.1f} MiB",
        ]
        more = {
            "doubled": self.doubled,
            "late": self.late,
            "interruptions": self.interruptions,
            "malformed": self.malformed,
            "rejected": self.rejected,
            "stalls": self.stalls,
        }
        return ", ".join(parts + [f"{value:,} {name}" for name, value in more.items() if value])

    def write(self, file: Path) -> None:
        """Write them as JSON, whole or not at all."""
        self.updated = time.time()
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(json.dumps(self.as_dict()) + "\n", encoding="utf-8")
        os.replace(beside, file)


def read_counters(file: Path) -> Counters:
    """Read what :meth:`Counters.write` wrote.

    :raises ValueError: when it holds something else.
    """
    try:
        return Counters(**json.loads(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError):
        raise ValueError(f"{file} holds no counters of a feed handler") from None
