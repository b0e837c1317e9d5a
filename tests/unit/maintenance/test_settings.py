"""Settings and steps of maintenance: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.maintenance.settings import STEPS, MaintenanceSettings, read_settings, read_steps


def test_small_is_a_part_of_the_target():
    assert MaintenanceSettings().small_bytes == 100_663_296
    assert read_settings({"target_bytes": 1 << 20, "small": 0.5}).small_bytes == 524_288
    assert read_settings(None) == MaintenanceSettings()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_files": 1}, "`min_files` is below 2"),
        ({"small": 1.5}, "`small` is above 1"),
        ({"target_bytes": 5}, "`target_bytes` is below 1 MiB"),
        ({"orphan_age": 3600}, "`orphan_age` is below a day"),
        ({"keep_snapshots": 0}, "`keep_snapshots` is below 1"),
        ({"min_manifests": 1}, "`min_manifests` is below 2"),
        ({"budget_seconds": -1}, "`budget_seconds` is -1"),
        ({"budget_seconds": "60"}, "`budget_seconds` is '60'"),
        ({"min_files": True}, "`min_files` is True"),
        ({"min_file": 3}, "Maintenance has no setting 'min_file'"),
    ],
)
def test_a_mistake_is_named(given, said):
    with pytest.raises(TableListError, match=said):
        read_settings(given)


@pytest.mark.parametrize(
    ("given", "steps"),
    [(None, STEPS), ("", STEPS), ([], STEPS), ("orphans, compact", ("compact", "orphans")), (["expire"], ("expire",))],
)
def test_steps_are_done_in_order(given, steps):
    assert read_steps(given) == steps


def test_a_step_that_is_none_is_refused():
    with pytest.raises(TableListError, match="Maintenance has no step 'vacuum'"):
        read_steps("compact,vacuum")
