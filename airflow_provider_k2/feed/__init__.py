"""Raw exchange messages: made, read from recordings, and sent through the warm tier as a feed would."""

from __future__ import annotations
