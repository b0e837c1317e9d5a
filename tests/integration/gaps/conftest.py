"""A warm tier, a broker, and a stand-in for the exchanges, all of them real but the last."""

from __future__ import annotations

from tests.support.stand_in import fed, stand_in

__all__ = ["fed", "stand_in"]
