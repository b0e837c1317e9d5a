"""What a failure of the Iceberg catalog means and what fixes it, judging by its HTTP status or the library's error.

Pure. A proxy or a load balancer may answer instead of the catalog, with a web page and any status.
"""

from __future__ import annotations

import json
import re
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.store import describe_store, in_one_line, is_of_store
from airflow_provider_k2.exceptions import CATALOG, STORE

if TYPE_CHECKING:
    from collections.abc import Iterator

AGAIN = "check the catalog's log, and run it again"
_CREDENTIALS = (
    "does not accept the credentials",
    "correct `credential`, `token` or the keys in the connection, see {}",
)
_RIGHT = ("does not allow it", "give the connection's user the right that it names, see {}")
_PLACE = (
    "does not know what it was asked for",
    "correct `host` and `warehouse` of the connection, or the namespace of `target` in the table list, see {}",
)
_BUSY = (
    "accepts no more requests for now",
    "run fewer tasks at once (an Airflow pool), or raise the limit of the catalog or of the proxy in front of it",
)
_REQUEST = ("refuses the request", "correct what it names in the entry of the table list, or in the connection, see {}")
_BY_STATUS: dict[int, tuple[str, str]] = {
    400: _REQUEST,
    401: _CREDENTIALS,
    403: _RIGHT,
    404: _PLACE,
    413: (
        "accepts no request of that size",
        "expire the table's old snapshots, or raise the limit on a request's size",
    ),
    419: _CREDENTIALS,
    422: _REQUEST,
    429: _BUSY,
    501: ("cannot do what it was asked for", "use a catalog that can, or a newer version of it, see {}"),
}

_PAGE = (
    "correct `host` of the connection: something else, such as a login page, answers there instead of the catalog, "
    "see {}"
)
_PROXY = "check the proxy or load balancer in front of the catalog, and that the catalog runs"
_PAGE_BY_STATUS = {403: f"configure the proxy in front of the catalog to let this host in, or {_PAGE}", 429: _BUSY[1]}

_STATUS_OF = {"BadRequestError": 400, "UnauthorizedError": 401, "ForbiddenError": 403, "TooManyRequestsError": 429}
"""Errors with the same meaning from catalogs that do not use HTTP."""

_AWS = {
    "AccessDenied|NotAuthorized": 403,
    "UnrecognizedClient|InvalidSignature|InvalidClientTokenId|ExpiredToken|SignatureDoesNotMatch": 401,
    "Throttl|TooManyRequests": 429,
}
"""Names of errors of AWS by pattern, and the statuses that say the same."""

_NO_JSON = re.compile(r"RESTError \d+: (?:Received unexpected JSON Payload|Could not decode json payload): (.*)", re.S)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.S | re.I)
_MARKUP = re.compile(r"^\s*<(!doctype|html|head|body|\?xml)\b", re.I)

LATER = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may be accepted."""


def status_of(error: BaseException) -> int | None:
    """HTTP status of the answer that a library's error is about, or stands for; None where there is none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            # Of botocore, whose AWS says no by a name, mostly with status 400.
            name = str(response.get("Error", {}).get("Code", ""))
            named = next((number for pattern, number in _AWS.items() if re.search(pattern, name)), None)
            return named or response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        status = getattr(response, "status_code", None)
        if isinstance(status, int):
            return status
    return _STATUS_OF.get(type(error).__name__)


def foreign_answer(error: BaseException) -> str | None:
    """What was answered instead of a catalog's answer, in a few words; None for a catalog's own words.

    :param error: what pyiceberg made of it.
    """
    text = _unread(error)
    if text is None:
        return None
    if _MARKUP.match(text):
        title = _TITLE.search(text)
        return f"a web page{f' ({_short(title[1])!r})' if title else ''}"
    return f"not a catalog's answer ({_short(text)!r})" if text.strip() else "nothing"


def explain_catalog(error: BaseException) -> tuple[str, str]:
    """What the catalog did, and what fixes it.

    :param error: what pyiceberg, requests or SQLAlchemy raised.
    :returns: the fix has ``{}`` in place of the command that shows the connection.
    """
    import requests
    from pyiceberg.exceptions import AuthorizationExpiredError, OAuthError, UnauthorizedError

    status, foreign = status_of(error), foreign_answer(error)
    if foreign is not None:
        by_proxy = status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR
        with_status = f" with status {status}" if status else ""
        return f"answers{with_status} by {foreign}", _PROXY if by_proxy else _PAGE_BY_STATUS.get(status or 0, _PAGE)
    if isinstance(error, (UnauthorizedError, OAuthError, AuthorizationExpiredError)):
        return _CREDENTIALS
    if status is not None and status in _BY_STATUS:
        return _BY_STATUS[status]
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "fails", AGAIN
    if status is not None and status >= HTTPStatus.BAD_REQUEST:
        return _REQUEST
    if isinstance(error, NotImplementedError):
        return _BY_STATUS[501]
    if isinstance(error, requests.exceptions.SSLError):
        return "has a certificate that is not trusted", "correct `ssl` in the connection's extras, see {}"
    if _says_nothing(error):
        return "does not answer in time", AGAIN
    # SQLAlchemy's, of a catalog in a database, and botocore's, of Glue.
    away = ("OperationalError", "EndpointConnectionError", "ConnectTimeoutError")
    if isinstance(error, requests.exceptions.ConnectionError) or type(error).__name__ in away:
        return "cannot be reached", "check host and port with {}, and that the catalog runs"
    return "does not work", "check it with {}"


def describe_catalog(error: BaseException) -> str:
    """What the catalog did, with the library's words if they add to it, in one line and without a full stop."""
    what = explain_catalog(error)[0]
    return what if foreign_answer(error) is not None else f"{what}: {type(error).__name__}: {in_one_line(error)}"


def name_service(error: BaseException) -> tuple[str, str]:
    """Which service a commit, or a look at the table, has failed by, and how, in one line.

    A catalog in a database reads and writes the table's metadata files by itself.
    """
    if is_of_store(error):
        return STORE, describe_store(error)
    return CATALOG, f"the Iceberg catalog {describe_catalog(error)}"


def is_of_catalog(error: BaseException) -> bool:
    """Whether an error is about the catalog, or about what answered instead of it."""
    from pyiceberg.exceptions import OAuthError, RESTError

    if isinstance(error, (RESTError, OAuthError)) or foreign_answer(error) is not None:
        return True
    if any(kind.__module__.startswith(("requests.", "urllib3.", "sqlalchemy.exc")) for kind in type(error).__mro__):
        return True
    # An answer that pyiceberg's models do not take, an endpoint that the catalog says it does not have, or Glue's.
    of_aws = type(error).__module__.startswith("botocore")
    return (of_aws or isinstance(error, (ValueError, KeyError, NotImplementedError))) and _raised_in_catalog(error)


def is_gone(error: BaseException) -> bool:
    """Whether the catalog itself says that the table, or its namespace, is not there."""
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    return isinstance(error, (NoSuchNamespaceError, NoSuchTableError)) and foreign_answer(error) is None


def may_answer_later(error: BaseException) -> bool:
    """Whether asking again may help: if the catalog is away, in trouble or busy, not if it has said no."""
    status = status_of(error)
    if status is not None:
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in LATER
    return foreign_answer(error) is None and not is_gone(error)


def is_refusal(error: BaseException) -> bool:
    """Whether a commit was refused for a reason that another try does not change."""
    status = status_of(error)
    if status is None:
        return False
    clear = status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in (HTTPStatus.CONFLICT, *LATER)
    return clear or status == HTTPStatus.NOT_IMPLEMENTED


def _unread(error: BaseException) -> str | None:
    """The text of an answer that pyiceberg could not read."""
    if found := _NO_JSON.search(str(error)):
        text = found[1].partition(", errors: ")[0]
        # An object is the word of some catalog or other, only not in the specification's form.
        return None if _is_object(text) else text
    problems = getattr(error, "errors", None)
    if type(error).__name__ == "ValidationError" and callable(problems) and _raised_in_catalog(error):
        first = problems()[0]
        return str(first.get("input", ""))
    if type(error).__name__ == "JSONDecodeError":
        return str(getattr(error, "doc", ""))
    return None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _raised_in_catalog(error: BaseException) -> bool:
    return any("/pyiceberg/catalog/" in frame.filename for frame in traceback.extract_tb(error.__traceback__))


def _says_nothing(error: BaseException) -> bool:
    """Whether a connection was taken, but no answer came; behind retries that is a connection error of requests'."""
    import requests
    import urllib3

    if isinstance(error, requests.exceptions.ConnectTimeout):
        return False
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.exceptions.Timeout) or isinstance(reason, urllib3.exceptions.ReadTimeoutError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:100]} ..."
