"""Certificates by trustme.

One for the loopback address, and a private authority with one for services that talk to each other.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from airflow_provider_k2.local.home import HOST, PRIVATE_DIRECTORY, write_private

if TYPE_CHECKING:
    from pathlib import Path


def server_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for ``127.0.0.1`` and ``localhost``, valid for a year; made once.

    :param directory: where ``server.crt`` and ``server.key`` (mode 0600) are kept.
    :return: the paths of certificate and key. The certificate's file ends with its authority's, so that clients can
        trust the file.
    """
    certificate, key = directory / "server.crt", directory / "server.key"
    if certificate.exists() and key.exists():
        return certificate, key
    import trustme

    authority = trustme.CA(organization_name="k2 local")
    year = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    issued = authority.issue_cert(HOST, "localhost", common_name="k2-local", not_after=year)
    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    write_private(key, issued.private_key_pem.bytes().decode())
    chain = [*issued.cert_chain_pems, authority.cert_pem]
    write_private(certificate, "".join(pem.bytes().decode() for pem in chain))
    return certificate, key


def private_authority(directory: Path) -> tuple[Path, Path, Path]:
    """A new authority, and a certificate from it, by which the parts of a service know each other: nobody else has one.

    The authority's key is thrown away.

    :param directory: where ``ca.crt``, ``part.crt`` and ``part.key`` (mode 0600) are written, new each time.
    :return: the paths of the three.
    """
    import trustme

    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    files = directory / "ca.crt", directory / "part.crt", directory / "part.key"
    authority = trustme.CA(organization_name="k2 local")
    # With names: Go does not take a certificate whose list of names is empty.
    part = authority.issue_cert(HOST, "localhost", common_name="k2-part")
    for file, pem in zip(files, (authority.cert_pem, part.cert_chain_pems[0], part.private_key_pem), strict=True):
        write_private(file, pem.bytes().decode())
    return files
