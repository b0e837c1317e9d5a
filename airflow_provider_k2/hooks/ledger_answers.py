"""What a failure of the ledger's PostgreSQL means and what fixes it, judging by its SQLSTATE or the driver's words.

Pure.

The SQLSTATEs are those of PostgreSQL's appendix A. Before a connection is made, drivers have no SQLSTATE, only libpq's
text.
"""

from __future__ import annotations

import re

SHOW = "`airflow connections get {conn_id}`"

_CONNECTING: tuple[tuple[str, str, str], ...] = (
    (
        r"authentication failed|no password supplied|role \S+ does not exist",
        "refuses the user or password",
        "correct login and password of the connection, see {show}",
    ),
    (
        r"database \S+ does not exist",
        "does not know the database",
        'run `CREATE DATABASE "{database}"`, or correct the schema of the connection, see {show}',
    ),
    (
        r"not permitted to log in",
        "refuses the user",
        'let an administrator run `ALTER ROLE "{user}" LOGIN`, or use another user, see {show}',
    ),
    (
        r"permission denied for database|CONNECT privilege",
        "refuses the user",
        'let the owner of the database run `GRANT CONNECT ON DATABASE "{database}" TO "{user}"`, see {show}',
    ),
    (
        r"too many (connections|clients)|remaining connection slots",
        "has no connection left",
        'raise `max_connections` (or the CONNECTION LIMIT of role "{user}"), or run fewer tasks at once (an Airflow '
        "pool)",
    ),
    (
        r"pg_hba\.conf",
        "does not let this host in",
        "let its administrator add a line to pg_hba.conf for this host, user, database and kind of connection, see "
        "{show}",
    ),
    (
        r"SSL|certificate",
        "cannot be reached by TLS",
        "correct `sslmode` and `sslrootcert` in the connection's extras, see {show}",
    ),
    (
        r"starting up|shutting down|recovery mode",
        "is starting or stopping",
        "wait until it is up, and run it again",
    ),
)

_NO_RIGHT = (
    'let its owner run `GRANT CREATE ON DATABASE "{database}" TO "{user}"`, so that the first run makes the schema '
    "k2; or, where "
    'that is there, `GRANT USAGE ON SCHEMA k2 TO "{user}"` and `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES '
    "IN SCHEMA k2 "
    'TO "{user}"` (and USAGE on its sequences)'
)
_FULL = "free disk space on the PostgreSQL server"
_STATES = {
    "42501": _NO_RIGHT,
    "53100": _FULL,
    "58030": f"check PostgreSQL's log: its disk fails; {_FULL}, if that is all",
    "53200": "give the PostgreSQL server more memory",
    "53300": (
        'raise `max_connections` (or the CONNECTION LIMIT of role "{user}"), or run fewer tasks at once '
        "(an Airflow pool)"
    ),
    "25006": "point the connection to the primary: this server, or this user, is read-only",
    "57014": 'raise `statement_timeout` of role "{user}" or of the database, or look for what slows the server down',
    "55P03": "look into `pg_stat_activity` for who holds the lock, and run it again",
    "40P01": "run it again",
    "40001": "run it again",
    "25P03": "run it again: the task, or its machine, had stopped in the middle",
    "42P01": (
        "if somebody dropped it, drop the schema k2, too: the next run makes both, and `k2 watermarks "
        "rebuild TABLE` fills it"
    ),
    "42703": (
        "if somebody changed it, drop the schema k2: the next run makes it, and `k2 watermarks rebuild TABLE` fills it"
    ),
}

BROKE_OFF = "check PostgreSQL's log and what lies between (a proxy, a pooler), and run it again; see {show}"


def explain_connecting(error: BaseException, **names: str) -> tuple[str, str]:
    """What PostgreSQL, or something on the way to it, answers to a new connection, and what fixes it.

    :param error: the driver's.
    :param names: ``conn_id``, ``user`` and ``database`` of the connection.
    """
    otherwise = ("cannot be reached", "check host and port with {show}, and that the server runs")
    found = ((what, fix) for pattern, what, fix in _CONNECTING if re.search(pattern, str(error)))
    what, fix = next(found, otherwise)
    return what, _with(fix, names)


def explain_refusal(error: BaseException, **names: str) -> tuple[str, str]:
    """What happened to a statement, and what fixes it.

    :param error: the driver's.
    :param names: ``conn_id``, ``user`` and ``database`` of the connection.
    """
    state = str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
    # Class 08: connection exception. 57P01 to 57P03: an administrator stops the server, or it has crashed.
    if not state or state.startswith(("08", "57P")):
        return "broke off", _with(BROKE_OFF, names)
    return "refuses", _with(_STATES.get(state, "check PostgreSQL's log, and check the database with {show}"), names)


def explain_silence(waited: str, **names: str) -> tuple[str, str]:
    """What to do about a server that neither answers nor breaks off.

    :param waited: how long it was waited for, in words.
    :param names: ``conn_id``, ``user`` and ``database`` of the connection.
    """
    fix = "check that the server, or the machine that it runs on, does not stand still, and run it again; see {show}"
    return f"has not answered within {waited}", _with(fix, names)


def first_line(error: BaseException) -> str:
    """The first line of the driver's message, without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _with(fix: str, names: dict[str, str]) -> str:
    return fix.format(show=SHOW.format(**names), **names)
