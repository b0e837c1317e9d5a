"""Nothing is ever replaced by less (contract 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import ReplacedByLessError

if TYPE_CHECKING:
    from airflow_provider_k2.engines import WindowJob


def refuse_less(job: WindowJob, held: int) -> None:
    """Refuse when the warm tier holds fewer rows of the window than the cold tier.

    :param held: rows that the commit would take out.
    :raises ReplacedByLessError: naming both counts, unless the run is forced.
    """
    if held <= job.facts.rows:
        return
    what = (
        f"{job.table.name}: window {job.window.describe(job.warm.is_time)} holds {job.facts.rows} rows in the warm tier, but "
        f"{held} rows in the cold tier"
    )
    if job.force:
        job.log.warning("%s. They are replaced because the run is forced.", what)
        return
    raise ReplacedByLessError(
        f"{what} (has the TTL or somebody deleted warm rows?). Nothing was replaced; if the cold rows are wrong, run it again "
        'with `{"force": true}` in the run conf.'
    )
