"""The most memory that this process has had."""

from __future__ import annotations

from pathlib import Path


def peak_bytes() -> int:
    """Peak resident set, in bytes.

    By ``VmHWM``, not ``ru_maxrss``: a process that was started by a larger one begins with that one's.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
