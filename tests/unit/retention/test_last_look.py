"""Which snapshots a proof still holds for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_k2.retention.last_look import _is_proven
from tests.unit.commit.test_cold_state import COMPACTION, DELETE, FOREIGN, metadata


@pytest.mark.parametrize(
    ("since", "holds"),
    [
        ((), True),
        ((COMPACTION,), True),
        ((COMPACTION, COMPACTION), True),
        ((FOREIGN,), False),
        ((DELETE, COMPACTION), False),
        ((COMPACTION, DELETE), False),
        ((None,), False),
    ],
)
def test_a_proof_holds_for_its_snapshot_and_for_compactions_of_it(since, holds):
    table = SimpleNamespace(metadata=metadata(FOREIGN, *since))
    run = SimpleNamespace(iceberg=SimpleNamespace(load=lambda target: table))
    assert _is_proven(run, SimpleNamespace(target="cold.t"), 1) is holds


@pytest.mark.parametrize(
    ("snapshots", "proven", "holds"), [((FOREIGN,), 7, False), ((FOREIGN,), None, False), ((), None, True)]
)
def test_a_rollback_and_a_first_commit_end_it(snapshots, proven, holds):
    table = SimpleNamespace(metadata=metadata(*snapshots))
    run = SimpleNamespace(iceberg=SimpleNamespace(load=lambda target: table))
    assert _is_proven(run, SimpleNamespace(target="cold.t"), proven) is holds


def test_a_table_that_is_gone_proves_nothing():
    run = SimpleNamespace(iceberg=SimpleNamespace(load=lambda target: None))
    assert not _is_proven(run, SimpleNamespace(target="cold.t"), 1)
