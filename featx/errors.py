"""Every error that featx raises deliberately: one tree, shown as one sentence by the command line."""

from __future__ import annotations


class FeatxError(Exception):
    """Something a user can mend. The message says what, where, and what to do next."""

    exit_code = 1
    in_json = False  # whether it is a part of what a command has printed for scripts


class UsageError(FeatxError):
    """A wrong option, value or pipeline file."""

    exit_code = 2


class DataError(FeatxError):
    """Images, labels or splits that cannot be worked with."""


class BackboneError(FeatxError):
    """An unknown network, layer or pooling, or weights that cannot be loaded."""


class EngineError(FeatxError):
    """A frozen graph that cannot be run here."""


class LimitError(FeatxError):
    """A limit of memory, threads or processes of this system: nothing is at fault, whatever was being done."""


class ClusterError(FeatxError):
    """A cluster that cannot be reached, or whose workers fail."""


class StoreError(FeatxError):
    """Feature files that are damaged, or that cannot be written."""


class HeadError(FeatxError):
    """A head that cannot be fitted on these features and labels."""


class BundleError(FeatxError):
    """A bundle that is damaged, not trusted, or newer than this featx."""


class ModuleError(FeatxError):
    """A module of somebody else's that cannot be imported, or does not hold what was named."""


class ExportError(FeatxError):
    """A model that cannot be exported, or whose export gives other predictions."""
