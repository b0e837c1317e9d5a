"""A Java trust store from the machine's certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from airflow_provider_k2.local import truststore
from airflow_provider_k2.local.tls import server_certificate


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    certificate, _ = server_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


def test_java_gets_what_python_trusts(bundle: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.p12"
    options = truststore.java_options(store)
    assert f"-Djavax.net.ssl.trustStore={store}" in options.split()
    held = load_pkcs12(store.read_bytes(), truststore.PASSWORD.encode())
    assert held.key is None
    assert len(held.additional_certs) == bundle.read_text().count("BEGIN CERTIFICATE")


def test_a_machine_without_a_list_leaves_java_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert truststore.java_options(tmp_path / "store.p12") == ""
