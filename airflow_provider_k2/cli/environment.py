"""Where the commands find their connections: the environment, or the running local system's file."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


def load_environment() -> Path | None:
    """Read ``.k2/env`` (or ``$K2_HOME/env``) when the environment names neither connections nor an Airflow.

    To be called before Airflow is imported, which reads its configuration then. Variables that are set already stay.

    :returns: the file that was read, or None.
    """
    # A command's own lines are few; Airflow's belong in the log of a run.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    if "AIRFLOW_HOME" in os.environ or any(name.startswith("AIRFLOW_CONN_") for name in os.environ):
        return None
    file = Path(os.environ.get("K2_HOME") or ".k2") / "env"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        words = shlex.split(line, comments=True)
        for word in words[1:] if words[:1] == ["export"] else []:
            name, _, value = word.partition("=")
            if name != "AIRFLOW__LOGGING__LOGGING_LEVEL":
                os.environ.setdefault(name, value)
    print(f"k2: using the local system of {file}", file=sys.stderr)
    return file
