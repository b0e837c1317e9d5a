"""What every error of a failing service says, whichever task met it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_k2.exceptions import K2Error, ServiceError
from tests.faults.http_proxy import Answer, Ask, HttpProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.retention.support import Gated

STEPS = {"offload": ("offload", "move"), "verify": ("compare",), "gate": ("compare", "drop")}
ACTS = ("offload", *(pytest.param(act, marks=pytest.mark.slow) for act in STEPS if act != "offload"))
"""``make test`` lets every failure meet the offload; ``make slow`` the comparison and the gate, too."""


def fails(pair: Gated, act: str, service: str, *, window: bool = False, kind: type[K2Error] = ServiceError) -> K2Error:
    """Let a task meet the failure; its error has every field, and what is not ours stays below.

    :param act: ``offload``, ``verify`` or ``gate``.
    :param service: the service that has failed.
    :param window: whether a window was being moved.
    :param kind: the class of the error.
    """
    with pytest.raises(K2Error) as caught:
        getattr(pair, act)()
    error = caught.value
    assert isinstance(error, kind), repr(error)
    if isinstance(error, ServiceError):
        assert error.service == service, str(error)
        assert error.as_dict()["service"] == service
    assert error.table == pair.name, str(error)
    assert error.step in STEPS[act], str(error)
    assert error.untouched, str(error)
    assert error.fix, str(error)
    assert (error.window is not None) or not window, str(error)
    text = str(error)
    assert text.startswith(f"{pair.name}: "), text
    assert "\n" not in text, text
    assert ".." not in text.replace("...", ""), text
    assert text.count(f" {pair.name}: ") == 0, text
    return error


def said(error: K2Error, what: str, fix: str) -> None:
    """Both halves of the sentence, without regard to case."""
    assert what.lower() in error.what.lower(), str(error)
    assert fix.lower() in str(error.fix).lower(), str(error)


class Interfering(HttpProxy):
    """Stands before a service, and answers some requests by itself.

    :param meant: which requests those are.
    :param given: the answer that they get; None breaks the connection.
    """

    def __init__(self, target: int, meant: Callable[[Ask], bool], given: Answer | None) -> None:
        super().__init__(target)
        self.meant, self.given = meant, given

    def answer(self, ask: Ask) -> Answer | None:
        if self.meant(ask):
            self.strikes.append(f"{ask.method} {ask.path}")
            return self.given
        return self.forward(ask)
