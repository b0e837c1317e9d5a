"""A commit whose staging passes a file over is staged again; a file that is really missing is told."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ValidationException
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from airflow_provider_k2.commit import replace
from airflow_provider_k2.commit.replace import STAGINGS, Replacement, stage


@pytest.fixture
def table(tmp_path):
    catalog = SqlCatalog("test", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    made = catalog.create_table("n.t", Schema(NestedField(1, "n", LongType())))
    made.append(pa.table({"n": [1]}))
    return made


def test_what_pyiceberg_passes_over_is_staged_again(table, monkeypatch):
    (file,) = [task.file for task in table.scan().plan_files()]
    tries = []

    def forgetful(*arguments):
        tries.append(arguments)
        if len(tries) < STAGINGS:
            raise ValidationException("Missing required files to delete")
        return real(*arguments)

    real = replace.stage_in
    monkeypatch.setattr(replace, "stage_in", forgetful)
    assert stage(table, Replacement((), (file,)), {}).updates
    assert len(tries) == STAGINGS


def test_a_file_that_is_not_there_is_told(table):
    (file,) = [task.file for task in table.scan().plan_files()]
    table.delete("n == 1")
    table.append(pa.table({"n": [2]}))
    with pytest.raises(ValidationException, match="Missing required files to delete"):
        stage(table, Replacement((), (file,)), {})
