"""Where the commands find their connections: the environment, or the running local system's file."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from airflow_provider_k2.local.ownership import why_not_trusted
from airflow_provider_k2.local.variables import WRITTEN


def load_environment() -> Path | None:
    """Read ``.k2/env`` (or ``$K2_HOME/env``) when the environment names neither connections nor an Airflow.

    To be called before Airflow is imported, which reads its configuration then. Variables that are set already stay. A
    file that somebody else could have written is not used, nor is a variable that the local system does not write.

    :returns: the file that was read, or None.
    """
    # A command's own lines are few; Airflow's belong in the log of a run.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    if "AIRFLOW_HOME" in os.environ or any(name.startswith("AIRFLOW_CONN_") for name in os.environ):
        return None
    file = Path(os.environ.get("K2_HOME") or ".k2") / "env"
    try:
        for path in (file.parent, file):
            reason = why_not_trusted(path)
            if reason:
                _say(f"the local system of {file} is not used, because {reason} ({path})")
                return None
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        _say(f"the local system of {file} is not used, because it cannot be read")
        return None
    try:
        variables = _variables(text)
    except ValueError as error:
        _say(f"the local system of {file} is not used, because the file is damaged ({error}); run `k2 local up`")
        return None
    for name, value in variables.items():
        if name in WRITTEN:
            os.environ.setdefault(name, value)
        elif name not in os.environ:
            _say(f"{name} of {file} is ignored: it is not a variable that the local system writes")
    _say(f"using the local system of {file}")
    return file


def _variables(text: str) -> dict[str, str]:
    """The variables that a file exports, one per line.

    :raises ValueError: when a quote is not closed.
    """
    words = (shlex.split(line, comments=True) for line in text.splitlines())
    found = (word.partition("=") for line in words if line[:1] == ["export"] for word in line[1:])
    return {name: value for name, _, value in found}


def _say(text: str) -> None:
    print(f"k2: {text}", file=sys.stderr)
