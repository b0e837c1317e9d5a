"""Parts of the local system that need none of its services."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from airflow_provider_k2.local import jars
from airflow_provider_k2.local.clickhouse_server.engine import _Wake
from airflow_provider_k2.local.home import LocalSystemError
from airflow_provider_k2.local.services import seaweedfs


def test_the_end_of_a_query_is_written_into_no_other_file(tmp_path: Path) -> None:
    """The callback of a future runs after its reader has gone on: by then the pipe's number may be a part's file."""
    wake = _Wake()
    wake.close()
    files = [os.open(tmp_path / str(number), os.O_CREAT | os.O_WRONLY) for number in range(8)]
    wake.set()
    wake.close()
    assert [(tmp_path / str(number)).read_bytes() for number in range(8)] == [b""] * 8
    for file in files:
        os.close(file)


def test_jars_come_by_maven_first_and_by_spark_submit_when_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def maven(directory: Path, *_: object) -> None:
        asked.append("maven")
        (directory / "jars").mkdir()
        raise LocalSystemError("no mirror")

    def by_spark(directory: Path, *_: object) -> None:
        assert not (directory / "jars").exists(), "what a failed try has left is believed"
        asked.append("spark")
        if len(asked) < 4:
            raise LocalSystemError("no network")

    monkeypatch.setattr(jars.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(jars, "_fetch_by_maven", maven)
    monkeypatch.setattr(jars, "_fetch_by_spark", by_spark)
    jars.fetch_jars(tmp_path, ["a:b:1"], lambda: Path("spark-submit"))
    assert asked == ["maven", "spark", "maven", "spark"]


def test_jars_that_cannot_be_had_say_why_for_each_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise LocalSystemError("no network")

    monkeypatch.setattr(jars.shutil, "which", lambda name: None)
    monkeypatch.setattr(jars, "_fetch_by_spark", fails)
    with pytest.raises(LocalSystemError, match="no network"):
        jars.fetch_jars(tmp_path, ["a:b:1"], lambda: Path("spark-submit"))


@pytest.mark.parametrize(
    ("total", "free", "starts"), [(250, 3.4, False), (250, 3.7, True), (10, 1.0, False), (10, 1.2, True)]
)
def test_a_disk_that_is_nearly_full_is_named_before_the_object_store_starts(
    total: int, free: float, starts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is a mock: no test machine has one of each size. `weed mini` on a real one of 250 GB does as assumed."""
    disk = type(shutil.disk_usage(tmp_path))(int(total * 1e9), int((total - free) * 1e9), int(free * 1e9))
    monkeypatch.setattr(seaweedfs.shutil, "disk_usage", lambda path: disk)
    if starts:
        seaweedfs.refuse_short_disk(tmp_path)
    else:
        with pytest.raises(LocalSystemError, match=rf"{free} GB are free .* needs .* GB .*K2_HOME"):
            seaweedfs.refuse_short_disk(tmp_path)
