"""The table of metrics."""

from __future__ import annotations

LOWER_IS_BETTER = frozenset({"log_loss"})
