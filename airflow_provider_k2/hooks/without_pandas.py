"""Load pyarrow's datasets without pandas: 1.2 CPU seconds of every task, and nothing of the provider uses it."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class _NotNow:
    """Tells one thread's imports that pandas is not installed."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Refuse pandas; let the other finders answer for the rest.

        :raises ModuleNotFoundError: for pandas.
        """
        if name == "pandas" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {name!r} while pyarrow.dataset is loaded", name=name)


def load_pyarrow_datasets() -> None:
    """Import ``pyarrow.dataset``, which pyiceberg needs, without the pandas that it would import, too.

    For processes of the provider's own: tasks and commands. pyarrow looks for pandas once, when ``pyarrow._dataset`` is
    initialized, and works without it. ``to_pandas()`` and ``Table.from_pandas()`` find pandas afterwards; only
    ``pyarrow.array(series)`` before either takes a Series for a sequence, whose NaN stays NaN (seen with pyarrow
    26.0.1). In a process that has imported pandas or the datasets before, this changes nothing.
    """
    if "pandas" in sys.modules or "pyarrow.dataset" in sys.modules:
        return
    finder = _NotNow()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow.dataset  # noqa: F401
    finally:
        sys.meta_path.remove(finder)
