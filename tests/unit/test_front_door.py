"""What users may import: listed, lazy, documented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_k2

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", airflow_provider_k2.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(airflow_provider_k2, name) is not None


def test_a_public_name_is_the_object_of_its_module() -> None:
    from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator

    assert airflow_provider_k2.ClickHouseToIcebergOperator is ClickHouseToIcebergOperator


def test_any_other_name_is_missing() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Offload'"):
        _ = airflow_provider_k2.Offload


def test_a_wildcard_import_takes_the_public_names() -> None:
    assert set(dir(airflow_provider_k2)) == set(airflow_provider_k2.__all__)


def test_the_table_list_is_read_without_airflow_pyiceberg_and_arrow() -> None:
    script = (
        "import sys; from airflow_provider_k2 import load_tables; load_tables(); "
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'airflow', 'pyiceberg', 'pyarrow', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_reference_is_what_the_docstrings_say() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci/api-reference", "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))])
def test_the_docs_import_public_names_only(page: str) -> None:
    for module, names in re.findall(
        r"^from (airflow_provider_k2\S*) import ([\w, ]+)", (ROOT / page).read_text(), re.M
    ):
        assert module in ("airflow_provider_k2", "airflow_provider_k2.exceptions"), f"{page}: {module}"
        assert set(names.split(", ")) <= {*airflow_provider_k2.__all__} or module.endswith("exceptions")
