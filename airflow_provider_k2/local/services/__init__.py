"""The services of the local system, one module each."""

from __future__ import annotations
