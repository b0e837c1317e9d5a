"""pyarrow's datasets without pandas, in an interpreter of its own: what is imported once stays."""

from __future__ import annotations

import subprocess
import sys

LOAD = "import sys; from airflow_provider_k2.hooks.without_pandas import load_pyarrow_datasets as load; "
PYICEBERG = "import pyiceberg.io.pyarrow, pyarrow as pa; "


def run(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()


def test_pyiceberg_reads_and_writes_without_pandas() -> None:
    assert run(LOAD + PYICEBERG + "print('pandas' in sys.modules)") == "True", "this test would show nothing"
    assert run(LOAD + "load(); " + PYICEBERG + "print('pandas' in sys.modules)") == "False"


def test_pandas_can_be_used_afterwards() -> None:
    script = (
        "load(); "
        + PYICEBERG
        + "frame = pa.table({'a': [1, None]}).to_pandas(); import pandas as pd; "
        + "print(frame.a.isna().tolist(), pa.Table.from_pandas(pd.DataFrame({'a': [1.5]}))['a'].to_pylist())"
    )
    assert run(LOAD + script) == "[False, True] [1.5]"


def test_pandas_that_is_there_already_is_left_alone() -> None:
    script = "import pandas; before = list(sys.meta_path); load(); " + PYICEBERG
    assert (
        run(LOAD + script + "print(pa.table({'a': [1]}).to_pandas().shape, sys.meta_path == before)") == "(1, 1) True"
    )


def test_other_threads_find_pandas_meanwhile() -> None:
    script = (
        "import threading; from airflow_provider_k2.hooks.without_pandas import _NotNow; "
        "sys.meta_path.insert(0, _NotNow()); seen = []; "
        "other = threading.Thread(target=lambda: seen.append(__import__('pandas').__name__)); "
        "other.start(); other.join(); "
        "print(seen)"
    )
    assert run(LOAD + script) == "['pandas']"
