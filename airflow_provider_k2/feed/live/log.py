"""The log of the feed handler: one JSON object per line, or plain text."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOG = logging.getLogger("k2.feed")


def event(level: int, name: str, text: str, **fields: Any) -> None:
    """Log something that happened.

    :param level: of :mod:`logging`.
    :param name: what, in a few words, the same each time: ``connected``.
    :param text: the sentence.
    :param fields: what the sentence is about, for machines.
    """
    LOG.log(level, text, extra={"k2": {"event": name, **fields}})


class JsonLines(logging.Formatter):
    """One JSON object per record: time (UTC), level, event, message, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            **getattr(record, "k2", {"event": record.name}),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def set_up_log(as_json: bool, debug: bool = False) -> None:
    """Log to standard error.

    :param as_json: one JSON object per line, for machines.
    :param debug: also what happens all the time.
    """
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        handler.setFormatter(JsonLines())
    else:
        plain = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        plain.converter = time.gmtime
        handler.setFormatter(plain)
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.DEBUG if debug else logging.INFO)
    LOG.propagate = False
