"""Nothing is ever replaced by less (contract 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import ReplacedByLessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.commit.existing import Shrunk
    from airflow_provider_k2.engines.base import WindowJob


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


def refuse_shrunk(job: WindowJob, shrunk: Sequence[Shrunk]) -> None:
    """Refuse when a row would replace one that has more of the column that grows.

    :param shrunk: cold rows that the commit would replace by less.
    :raises ReplacedByLessError: naming the first key with both figures, and how many there are, unless the run is forced.
    """
    if shrunk:
        first = shrunk[0]
        refuse_shrunk_key(job, ", ".join(map(str, first.key)), str(first.held), str(first.offered), len(shrunk))


def refuse_shrunk_key(job: WindowJob, key: str, held: str, offered: str, keys: int) -> None:
    """Refuse by the figures of the first key, as :func:`refuse_shrunk` does.

    :param keys: how many keys would be replaced by less.
    """
    column = job.table.grows
    what = (
        f"{job.table.name}: window {job.window.describe(job.warm.is_time)} holds the key ({key}) with {column} {offered} in the "
        f"warm tier, but {held} in the cold tier"
    ) + (f", and {keys - 1} more keys like it" if keys > 1 else "")
    if job.force:
        job.log.warning("%s. They are replaced because the run is forced.", what)
        return
    raise ReplacedByLessError(
        f"{what} (has the TTL or somebody deleted what it was made of?). Nothing was replaced and the watermark stands; if the "
        f"cold row is right, delete the key's rows from {job.table.identity_source}, if it is wrong, run it again with "
        '`{"force": true}` in the run conf.'
    )
