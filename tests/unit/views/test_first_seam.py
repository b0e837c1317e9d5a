"""Where the seam of a new view lies."""

from __future__ import annotations

from airflow_provider_k2.views.first_seam import Bucket, FirstSeam, choose


def test_all_rows_warm_means_no_seam():
    assert choose([Bucket(0, 5, 5, 9), Bucket(10, 3, 0, -100)], 10, -100, None) == FirstSeam(-100)


def test_it_lies_above_every_row_that_is_only_cold():
    assert choose([Bucket(0, 0, 5, 9), Bucket(10, 4, 5, 17), Bucket(20, 5, 5, 29)], 10, -100, None) == FirstSeam(18)


def test_it_lies_above_what_was_deleted_on_purpose():
    assert choose([Bucket(0, 5, 5, 9)], 10, -100, 4) == FirstSeam(4)
    assert choose([Bucket(0, 5, 6, 9)], 10, -100, 4) == FirstSeam(10)


def test_warm_rows_below_it_that_are_not_cold_are_counted():
    assert choose([Bucket(0, 7, 5, 9), Bucket(10, 4, 5, 17), Bucket(20, 9, 5, 29)], 10, -100, None) == FirstSeam(18, 2)
