"""featx: extract features with a frozen backbone once, then fit classical heads on the cache."""

from __future__ import annotations

__version__ = "0.1.0"
