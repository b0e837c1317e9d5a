"""The broker between the exchanges and the warm tier: its topics, settings and producer."""

from __future__ import annotations
