"""The operator of maintenance: its XCom, the ledger's record, tables of others, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_k2.exceptions import MaintenanceError
from airflow_provider_k2.operators.maintenance import IcebergMaintenanceOperator
from airflow_provider_k2.tables.model import to_entry
from tests.support.tasks import TaskRun

if TYPE_CHECKING:
    from tests.integration.tables import Tiers


@pytest.fixture
def table(tiers) -> Tiers:
    made = tiers(window_rows=1)
    made.insert(*range(6))
    made.offload()
    return made


def care(table: Any, **arguments: Any) -> IcebergMaintenanceOperator:
    return IcebergMaintenanceOperator(
        task_id="maintain", table=table, **{"settings": {"settled_seconds": 0}, **arguments}
    )


def test_its_figures_are_the_xcom_and_in_the_ledger(table):
    operator = care(to_entry(table.config))
    said = TaskRun("run 7").of(operator)
    assert operator.table_name == table.name
    assert (said["before"]["files"], said["after"]["files"], said["failed"]) == (6, 1, False)
    assert said["steps"] == ["compact", "manifests", "expire", "orphans"]
    ((_, run_id, stored),) = table.ledger.maintenance_runs(table.config.target)
    assert run_id == "run 7"
    assert stored["after"]["files"] == 1
    assert table.snapshots()[-1]["k2.maintenance-run"] == "run 7"
    table.assert_same()


@pytest.mark.slow
def test_a_table_of_others_by_its_name(table):
    said = TaskRun().of(care(table.config.target), steps=["compact"], dry_run=True)
    assert (said["compacted"]["files"], said["after"]["files"], said["dry_run"]) == (6, 6, True)


def test_a_table_that_was_never_offloaded_is_no_error(tiers):
    said = TaskRun().of(care(to_entry(tiers().config)))
    assert "its first offload makes it" in said["notes"][0]


def test_what_has_to_be_looked_at_fails_the_task_and_leaves_the_figures(table):
    with table.cold.transaction() as transaction:
        transaction.set_properties({"gc.enabled": "false"})
    run = TaskRun()
    with pytest.raises(MaintenanceError, match=r"`gc\.enabled` is false"):
        run.of(care(to_entry(table.config)))
    assert run.xcom["return_value"]["after"]["files"] == 1


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"table": "x"}, "unknown key `table`"),
        ({"steps": ["vacuum"]}, "no step 'vacuum'"),
        ({"dry_run": "yes"}, "is not a boolean"),
    ],
)
@pytest.mark.slow
def test_a_mistake_in_the_run_conf_changes_nothing(table, conf, said):
    before = table.untouched()
    with pytest.raises(AirflowFailException, match=said):
        TaskRun().of(care(to_entry(table.config)), **conf)
    assert table.untouched() == before


@pytest.mark.slow
def test_a_run_for_other_tables_skips_it(table):
    with pytest.raises(AirflowSkipException, match="is not among the tables of this run"):
        TaskRun().of(care(to_entry(table.config)), tables=["another"])
