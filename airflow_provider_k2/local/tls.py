"""Certificates: one for the loopback address, and a private authority with one for services that talk to each other."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING

from airflow_provider_k2.local.home import HOST, PRIVATE_DIRECTORY, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def self_signed(directory: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority, valid for a year, for ``127.0.0.1`` and ``localhost``; made once.

    :param directory: where ``server.crt`` and ``server.key`` (mode 0600) are kept.
    :return: the paths of certificate and key.
    """
    certificate_file, key_file = directory / "server.crt", directory / "server.key"
    if certificate_file.exists() and key_file.exists():
        return certificate_file, key_file
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "k2-local")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file, key)
    write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM).decode())
    return certificate_file, key_file


def private_authority(directory: Path) -> tuple[Path, Path, Path]:
    """A new authority, and a certificate of it, by which the parts of a service know each other: nobody else has one.

    The authority's key is thrown away.

    :param directory: where ``ca.crt``, ``part.crt`` and ``part.key`` (mode 0600) are written, each time anew.
    :return: the paths of the three.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    files = directory / "ca.crt", directory / "part.crt", directory / "part.key"
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    for file, name, owner in ((files[0], "k2-authority", authority), (files[1], "k2-part", key)):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "k2-authority")]))
            .public_key(owner.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=owner is authority, path_length=None), critical=True)
            .sign(authority, hashes.SHA256())
        )
        write_private(file, certificate.public_bytes(serialization.Encoding.PEM).decode())
    _write_key(files[2], key)
    return files


def _write_key(file: Path, key: EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives import serialization

    encryption = serialization.NoEncryption()
    write_private(
        file, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()
    )
