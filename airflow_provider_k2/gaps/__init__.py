"""Gaps: trades that an exchange has numbered and the warm tier does not hold. Found, kept, filled from its history."""

from __future__ import annotations
