"""Partitions that go only while the disk is full: ``when_free_below``."""

from __future__ import annotations

from tests.integration.retention.support import ago, partition


def test_proven_partitions_go_while_little_of_the_disk_is_free(make, clickhouse):
    (free,) = clickhouse.execute("SELECT 100 * free_space / total_space FROM system.disks WHERE name = 'default'")[0]
    roomy = make(retention={"keep": "7d", "when_free_below": f"{free / 2:.3f} %"})
    roomy.fill(10, 9, 2)
    roomy.offload()
    report = roomy.gate()
    assert (report.dropped, report.waiting, report.young, report.failed) == ([], 2, 1, False)
    assert any(f"{partition(10)} is past its age and stays" in note for note in report.notes)
    assert roomy.warm_rows() == 72

    full = make(retention={"keep": "7d", "when_free_below": f"{(free + 100) / 2:.3f} %"})
    full.fill(10, 9, 2)
    full.offload()
    full.insert(1, ago(9) + 1)
    report = full.gate()
    # The oldest first; what is not proven, or younger than `keep`, stays however full the disk is.
    assert [one.partitions for one in report.dropped] == [(partition(10),)]
    assert [one.partitions for one in report.kept] == [(partition(9),)]
    assert (report.waiting, report.young) == (0, 1)
    assert full.partitions() == [partition(9), partition(2)]
