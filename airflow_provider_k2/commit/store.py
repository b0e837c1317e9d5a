"""What a failure of the cold table's object store means and what fixes it, judging by what the libraries say. Pure."""

from __future__ import annotations

import errno
import re
import traceback

_LONGEST = 400
"""Characters of a library's message."""

KEYS = "check `s3.access-key-id` and `s3.secret-access-key` (or your store's counterparts) in the catalog's connection"
AGAIN = "check the store's log, and run it again"

LACKS, DENIES, UNKNOWN = "lacks a file", "does not allow it", "fails"
"""What a store does that has lost a file, that gives us no right, and one of which nothing more is known."""

_TOLD: tuple[tuple[str, str, str], ...] = (
    (
        r"INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|MISSING_AUTHENTICATION_TOKEN|"
        r"UNRECOGNIZED_CLIENT|INVALID_CLIENT_TOKEN_ID|EXPIRED_TOKEN|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken",
        "does not accept the keys",
        KEYS,
    ),
    (
        # The answer to a HEAD has no body, which would tell the two apart.
        r"ACCESS_DENIED|AccessDenied|Forbidden|\b403\b",
        DENIES,
        f"give the user of the keys the right to read, write and delete below the table's location, and {KEYS}",
    ),
    (
        r"NO_SUCH_BUCKET|NoSuchBucket",
        "has no such bucket",
        "create the bucket, or correct the catalog's warehouse or the table's location",
    ),
    (
        r"\b507\b|InsufficientStorage|[Nn]o space left|[Dd]isk quota|QuotaExceeded|XMinioStorageFull",
        "is full",
        "free space in the store, and run it again",
    ),
    (
        r"curlCode: (5|6|7)\b|[Cc]ould not connect|[Cc]onnection refused|[Cc]ould not resolve|Could not contact",
        "cannot be reached",
        "check `s3.endpoint` in the catalog's connection, and that the store runs",
    ),
    (
        r"curlCode: (35|51|58|60|77|83)\b|SSL|[Cc]ertificate",
        "has a certificate that is not trusted",
        "check `s3.endpoint` (http or https) in the catalog's connection, and the worker's certificate authorities",
    ),
    (r"curlCode: 28\b|[Tt]imed? ?out|REQUEST_TIMEOUT", "does not answer in time", AGAIN),
    (r"NETWORK_CONNECTION|[Cc]onnection (was )?reset|[Bb]roken pipe", "breaks off", AGAIN),
    (
        r"NO_SUCH_KEY|RESOURCE_NOT_FOUND|NoSuchKey|[Nn]o such file|Path does not exist",
        LACKS,
        "run `k2 verify`, which names each file that is lost, and what to do",
    ),
)

_BY_NUMBER = {
    errno.ENOSPC: "No space left",
    errno.EDQUOT: "Disk quota",
    errno.EACCES: "AccessDenied",
    errno.EPERM: "AccessDenied",
    errno.ENOENT: "No such file",
}

_LIBRARIES = re.compile(r"(^|/)(pyarrow|fsspec|s3fs|gcsfs|adlfs)/|/pyiceberg/(io|avro)/|(^|/)pyiceberg/manifest\.py$")


def explain_store(error: BaseException) -> tuple[str, str]:
    """What the store did, and what fixes it.

    :param error: what a library made of it.
    """
    text = f"{_BY_NUMBER.get(getattr(error, 'errno', None) or 0, '')} {type(error).__name__} {error}"
    return next(((what, fix) for pattern, what, fix in _TOLD if re.search(pattern, text)), (UNKNOWN, AGAIN))


def describe_store(error: BaseException) -> str:
    """What the store did, with the library's words, in one line and without a full stop."""
    return f"the cold table's storage {explain_store(error)[0]}: {type(error).__name__}: {in_one_line(error)}"


def is_of_store(error: BaseException) -> bool:
    """Whether an error comes from a library that reads or writes the cold table's files.

    What ``requests`` raises is an ``OSError``, too, but the catalog's.
    """
    import pyarrow as pa

    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    met = any(map(_LIBRARIES.search, frames))
    if type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp"):
        # Glue and DynamoDB are catalogs that are asked by the same library.
        return met or not any("/pyiceberg/catalog/" in name for name in frames)
    return met and isinstance(error, (OSError, EOFError, pa.ArrowException)) and not _is_of_requests(error)


def in_one_line(error: BaseException) -> str:
    """A library's message, shortened at a word, without a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST].rpartition(' ')[0]} ...").rstrip(".") or text


def _is_of_requests(error: BaseException) -> bool:
    return any(kind.__module__.startswith(("requests.", "urllib3.")) for kind in type(error).__mro__)
