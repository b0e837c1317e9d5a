"""Keys of an upsert table that the cold tier holds and the warm tier no longer has, in a range of event time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_k2.checksum.cold import row_hashes
from airflow_provider_k2.commit.bounds import range_filter

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from airflow_provider_k2.warm.source import WarmTable
    from airflow_provider_k2.windows import Window


@dataclass(frozen=True)
class LostKeys:
    """Cold keys without a warm row.

    :param keys: how many.
    :param warm: keys of the range in the warm tier.
    :param cold: keys of the range in the cold tier.
    :param example: one of the lost keys.
    """

    keys: int
    warm: int
    cold: int
    example: tuple[Any, ...]


def find_lost_keys(cold: Table, warm: WarmTable, event_time: str, window: Window) -> LostKeys | None:
    """Find them by the keys' hashes; memory is two words per key.

    :param window: a range of the event time.
    """
    names = list(warm.table.key)
    held = np.unique(warm.key_hashes(event_time, window))
    lost, rows, example = 0, 0, None
    scan = cold.scan(row_filter=range_filter(cold, event_time, window), selected_fields=tuple({*names, event_time}))
    for batch in scan.to_arrow_batch_reader():
        keys = batch.select(names)
        missing = ~np.isin(row_hashes(keys), held)
        rows += batch.num_rows
        lost += int(missing.sum())
        if example is None and missing.any():
            row = keys.slice(int(missing.argmax()), 1).to_pylist()[0]
            example = tuple(row[name] for name in names)
    return LostKeys(lost, len(held), rows, example) if example is not None else None
