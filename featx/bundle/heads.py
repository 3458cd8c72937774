"""Heads from other libraries: what has to be installed for them, and which cannot be shared."""

from __future__ import annotations

from pathlib import Path

from featx.bundle.records import HeadRecord
from featx.config.head import plugin_of
from featx.errors import BundleError


def require_plugin(shown: Path, head: HeadRecord) -> None:
    """Raise BundleError where the head of a bundle is that of a plug-in which is not installed."""
    if head.plugin and plugin_of(head.clf) is None:
        raise BundleError(
            f"The head of {shown} is {head.clf}, a plug-in of {head.plugin}, which is not installed here. Install it, "
            "if you trust it."
        )


def require_shareable(shown: Path, head: HeadRecord) -> None:
    """Raise BundleError where the head of a bundle is kept as a pickle, with the reason and what would work."""
    if head.kind == "pickle":
        raise BundleError(
            f"{shown} cannot be shared: its head is a pickle, which runs any code that it holds where it is loaded, "
            f"since skops could not write it ({head.reason}). Fit a classifier that holds numbers, texts, arrays, "
            "lists and other classifiers alone, or another --clf."
        )
