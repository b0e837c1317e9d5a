"""An error's sentence is made of its fields, in one place."""

from __future__ import annotations

import inspect
import pickle

import pytest

from airflow_provider_k2 import exceptions
from airflow_provider_k2.exceptions import K2Error, LeaseError, LeaseHeldError, ServiceError, about


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (K2Error("a whole sentence."), "a whole sentence."),
        (K2Error("rows are gone", table="a"), "a: rows are gone."),
        (K2Error("rows are gone", table="a", fix="look"), "a: rows are gone. Look."),
        (
            K2Error(
                "rows are gone", table="a", window="[1, 2)", untouched="Nothing was moved", fix="run `k2 verify a`"
            ),
            "a: window [1, 2): rows are gone. Nothing was moved; run `k2 verify a`.",
        ),
        (K2Error("window [1, 2) has no rows", table="a", window="[1, 2)"), "a: window [1, 2) has no rows."),
        (K2Error("a: named below", table="a", fix="look"), "a: named below. Look."),
    ],
)
def test_the_sentence(error: K2Error, sentence: str) -> None:
    assert str(error) == sentence


def test_what_is_known_later_is_added_and_what_was_known_stays() -> None:
    error = ServiceError("no answer", service="ClickHouse", window="[1, 2)")
    with pytest.raises(ServiceError) as caught, about("orders", "offload"):
        raise error
    assert (caught.value.table, caught.value.window, caught.value.step) == ("orders", "[1, 2)", "offload")
    with pytest.raises(ServiceError), about("others", "compare"):
        raise error
    assert (error.table, error.step) == ("orders", "offload")


def test_what_was_not_expected_is_noted() -> None:
    with pytest.raises(ZeroDivisionError) as caught, about("orders", "offload"):
        _ = 1 / 0
    assert caught.value.__notes__[0].startswith("orders: ")


def test_an_error_travels_between_processes() -> None:
    error = ServiceError("no answer", service="ClickHouse", table="a", fix="look").at(window="[1, 2)")
    again = pickle.loads(pickle.dumps(error))
    assert again.as_dict() == error.as_dict() == exceptions.from_dict(error.as_dict()).as_dict()
    assert str(again) == str(error)


def test_the_classes_can_be_routed_by() -> None:
    assert issubclass(LeaseHeldError, LeaseError)
    kinds = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if kind is not K2Error]
    assert all(issubclass(kind, K2Error) for kind in kinds if kind.__module__ == exceptions.__name__)
