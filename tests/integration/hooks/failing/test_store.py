"""Object stores that fail: away, refusing, full, breaking off while something is written or read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.exceptions import STORE, ServiceError
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.windows import Window
from tests.faults.http_proxy import Answer, Ask
from tests.integration.hooks.failing.support import ACTS, Interfering, fails, said
from tests.integration.pair import HOUR, day

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.local import LocalSystem
    from tests.integration.retention.support import Gated

DATA, LISTS = r"\.parquet(\?|$)", r"\.avro(\?|$)"


def s3(status: int, code: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
    return Answer(status, body, (("Content-Type", "application/xml"),))


def asks(methods: str, path: str) -> Callable[[Ask], bool]:
    return lambda ask: ask.method in methods.split() and re.search(path, ask.path) is not None


WRITES, READS = "PUT POST", "GET HEAD"
FULL, DENIED, LOST = s3(507, "InsufficientStorage"), s3(403, "AccessDenied"), s3(404, "NoSuchBucket")


@pytest.mark.parametrize(
    ("meant", "given", "what", "fix"),
    [
        (asks(WRITES, DATA), FULL, "full", "free space"),
        (asks(WRITES, LISTS), FULL, "full", "free space"),
        (asks(WRITES, DATA), DENIED, "does not allow", "right"),
        (asks(WRITES, LISTS), DENIED, "does not allow", "right"),
        (asks(READS, DATA), DENIED, "does not allow", "right"),
        (asks(WRITES, DATA), LOST, "bucket", "bucket"),
        (asks(WRITES, DATA), None, "breaks off", "again"),
        (asks(WRITES, LISTS), None, "breaks off", "again"),
        (asks(READS, DATA), None, "breaks off", "again"),
    ],
    ids=[
        "full for data",
        "full for manifests",
        "no right to write data",
        "no right to write manifests",
        "no right to read data",
        "no bucket",
        "breaks off while data is written",
        "breaks off while manifests are written",
        "breaks off while data is read back",
    ],
)
def test_while_a_window_moves(
    pair: Gated, altered: Any, proxies: Any, meant: Any, given: Answer | None, what: str, fix: str, system: Any
) -> None:
    proxy = proxies(Interfering(system.seaweedfs.s3_port, meant, given))
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra={"s3.endpoint": f"http://127.0.0.1:{proxy.port}"}))
    error = fails(pair, "offload", STORE, window=True)
    assert proxy.strikes
    said(error, what, fix)
    pair.iceberg = IcebergTableHook()
    assert pair.cold.metadata.current_snapshot_id is None
    assert pair.ledger.watermark(pair.config) is None


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"s3.endpoint": "http://127.0.0.1:{closed}"}, "cannot be reached", "s3.endpoint"),
        ({"s3.endpoint": "http://no.such.host.invalid:80"}, "cannot be reached", "s3.endpoint"),
        ({"s3.secret-access-key": "wrong"}, "does not a", "s3.secret-access-key"),
        ({"s3.access-key-id": "wrong"}, "does not a", "s3.access-key-id"),
    ],
    ids=["closed port", "unknown host", "wrong secret", "wrong key"],
)
def test_it_does_not_answer_or_does_not_know_us(
    moved: Gated, altered: Any, closed_port: int, act: str, change: dict[str, str], what: str, fix: str
) -> None:
    changed = {name: value.format(closed=closed_port) for name, value in change.items()}
    moved.iceberg = IcebergTableHook(altered("iceberg_default", extra=changed))
    said(fails(moved, act, STORE), what, fix)


@pytest.mark.parametrize("path", [DATA, LISTS], ids=["data", "manifests"])
@pytest.mark.parametrize("act", ["verify", "gate"])
@pytest.mark.parametrize(
    ("given", "what"), [(None, "breaks off"), (DENIED, "does not allow it")], ids=["breaks off", "no right"]
)
def test_while_the_cold_tier_is_read(
    moved: Gated, altered: Any, proxies: Any, system: Any, act: str, path: str, given: Answer | None, what: str
) -> None:
    proxy = proxies(Interfering(system.seaweedfs.s3_port, asks(READS, path), given))
    moved.iceberg = IcebergTableHook(
        altered("iceberg_default", extra={"s3.endpoint": f"http://127.0.0.1:{proxy.port}"})
    )
    error = fails(moved, act, STORE)
    assert proxy.strikes
    assert what in error.what


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        pytest.param(DENIED, "does not allow it", "right to read", id="no right"),
        pytest.param(None, "breaks off", "run it again", id="breaks off"),
        pytest.param(s3(404, "NoSuchKey"), "cannot be read", "names the files that are missing", id="lost"),
    ],
)
def test_while_a_file_is_read_that_a_window_replaces(
    pair: Gated, altered: Any, proxies: Any, system: LocalSystem, given: Answer | None, what: str, fix: str
) -> None:
    pair.offload()
    (old,) = (task.file.file_path.rpartition("/")[2] for task in pair.cold.scan().plan_files())
    proxy = proxies(Interfering(system.seaweedfs.s3_port, asks(READS, old), given))
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra={"s3.endpoint": f"http://127.0.0.1:{proxy.port}"}))
    with pytest.raises(ServiceError) as caught:
        pair.offload(kind="backfill", window=Window(day(1) + HOUR // 2, day(1) + HOUR))
    assert proxy.strikes
    error = caught.value
    assert (error.service, error.table) == (STORE, pair.name)
    assert error.window is not None
    assert what in str(error)
    assert fix in str(error.fix)
    pair.iceberg = IcebergTableHook()
    assert pair.cold.scan().count() == 20
